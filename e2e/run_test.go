package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

func TestARunInterruptedAfterItsStorySaysSo(t *testing.T) {
	bundle, err := evidence.Create(t.TempDir(), "firewall-traversal", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(Config{Inventory: &inventory.Inventory{Area: "firewall-traversal"}, Bundle: bundle})
	ctrlC := errors.New("interrupt signal received")
	r.after = func(context.Context) error { r.abort(ctrlC); return nil }
	results, err := r.carryOut(t.Context())
	if !errors.Is(err, ctrlC) || results.Overall == "pass" {
		t.Errorf("%v, %s", err, results.Overall)
	}
	if err := bundle.Seal(); err != nil {
		t.Fatal(err)
	}
	b, err := evidence.Open(bundle.Dir())
	if err != nil {
		t.Fatal(err)
	}
	last := b.Events[len(b.Events)-1]
	if last.Name != evidence.RunEnded || !strings.Contains(string(last.Data), `"interrupted"`) {
		t.Errorf("the trace ends with %s %s", last.Name, last.Data)
	}
}
