//go:build linux

package lab

import (
	"errors"
	"log/slog"
	"testing"
)

func TestWireProfilesProveThemselves(t *testing.T) {
	var names []string
	for _, p := range wireProfiles {
		names = append(names, p.Name)
	}
	found, err := SelfTest(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), names...)
	if r, ok := errors.AsType[*RefusedError](err); ok {
		t.Skipf("SKIPPED: no lab on this machine: %v", r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		t.Log(p.Profile, p.Name, p.Saw, p.Took)
		if p.Err != "" && p.Err != "it has no proof" {
			t.Errorf("%s: %s: %s", p.Profile, p.Name, p.Err)
		}
	}
}
