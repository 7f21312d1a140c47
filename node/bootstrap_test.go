package node

import (
	"slices"
	"testing"

	"github.com/worldcompute/wce2e/node/traversal"
)

func TestTheWordBuiltinStandsForTheBuiltInList(t *testing.T) {
	own := "/ip4/45.9.0.10/tcp/443/tls/ws/p2p/12D3KooWRN68o2JuVDwrPnzKPnpNRJ16e8n91addJqeLGgnnfp4A"
	both := slices.Concat(traversal.BuiltinBootstrap, []string{own})
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"nothing said":          {Config{}, traversal.BuiltinBootstrap},
		"the word":              {Config{Bootstrap: []string{Builtin}}, traversal.BuiltinBootstrap},
		"the word and an own":   {Config{Bootstrap: []string{Builtin, own}}, both},
		"an own":                {Config{Bootstrap: []string{own}}, []string{own}},
		"nobody is to be asked": {Config{NoBootstrap: true}, nil},
	} {
		if got := c.cfg.bootstrap(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if err := traversal.CheckBootstrap(c.cfg.bootstrap()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
