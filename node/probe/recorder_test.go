package probe

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

func TestWhatTheEndOfTheLookCutsOffIsNoFailureOfTheNetwork(t *testing.T) {
	wait := func(ctx context.Context, _ *netcheck.Record) error { <-ctx.Done(); return ctx.Err() }
	for what, c := range map[string]struct {
		within, look time.Duration
		do           func(context.Context, *netcheck.Record) error
		want         netcheck.Failure // empty: none
	}{
		"a step runs out of its own time":           {10 * time.Millisecond, time.Minute, wait, netcheck.Timeout},
		"the look ends during a step":               {time.Minute, 10 * time.Millisecond, wait, netcheck.Aborted},
		"the look had ended before":                 {time.Minute, -1, func(context.Context, *netcheck.Record) error { return io.EOF }, netcheck.Aborted},
		"a step succeeds as the look ends":          {time.Minute, -1, func(context.Context, *netcheck.Record) error { return nil }, ""},
		"a step fails while the look has time left": {time.Minute, time.Minute, func(context.Context, *netcheck.Record) error { return io.EOF }, netcheck.EOF},
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.look)
			defer cancel()
			r := &recorder{}
			_ = r.transaction(netcheck.Record{}).step(ctx, netcheck.Keepalive, c.within, c.do)
			got := r.all()[0].Failure
			if c.want == "" && got != nil || c.want != "" && (got == nil || *got != c.want) {
				t.Errorf("%v, want %q", got, c.want)
			}
		})
	}
}
