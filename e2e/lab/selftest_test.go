//go:build linux

package lab

import (
	"errors"
	"log/slog"
	"testing"
)

func TestProfilesProveThemselves(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	found, err := SelfTest(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if r, ok := errors.AsType[*RefusedError](err); ok {
		t.Skipf("SKIPPED: no lab on this machine: %v", r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if p.Err != "" || p.Hidden != "" {
			t.Errorf("%s: %s: %s", p.Profile, p.Name, p.Err+p.Hidden)
		}
	}
}

func TestEveryProofFailsWithoutWhatItProves(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	mutants, err := Mutants()
	if err != nil {
		t.Fatal(err)
	}
	found, err := Mutate(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if r, ok := errors.AsType[*RefusedError](err); ok {
		t.Skipf("SKIPPED: no lab on this machine: %v", r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(mutants) {
		t.Errorf("of %d mutants %d were tried", len(mutants), len(found))
	}
	for _, p := range found {
		t.Logf("%s: %s (%s)", p.Profile, p.Err, p.Took)
		if p.Err == "" {
			t.Errorf("%s: it still seems true that %s: %s", p.Profile, p.Does, p.Saw)
		}
	}
}
