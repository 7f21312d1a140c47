package discovery

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestTheCacheComesBackAsItWas(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	key, id := stranger(t)
	rec := sealed(t, key, id, now, addr("/ip4/9.9.9.9/tcp/443/tls/ws"))
	s, err := openRecord(rec)
	if err != nil {
		t.Fatal(err)
	}
	want := fromRecord(s, policy{})
	want.heard, want.granted, want.way = now, now.Add(-time.Hour), addr("/ip4/192.168.1.1/tcp/443/tls/ws")
	if err := saveCache(dir, []known{want}); err != nil {
		t.Fatal(err)
	}
	got, err := loadCache(dir, policy{}, now)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	g := got[0]
	if g.ID != id || !sameAddrs(g.Addrs, want.Addrs) || !g.heard.Equal(want.heard) || !g.granted.Equal(want.granted) ||
		!g.way.Equal(want.way) || string(g.record) != string(rec) || g.seq != want.seq || g.source != Cache {
		t.Errorf("saved %+v, loaded %+v", want, g)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("files left: %s", left)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	var many []known
	for range 2 * maxCached {
		_, id := stranger(t)
		many = append(many, known{AddrInfo: peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{addr("/ip4/9.9.9.9/tcp/1")}}, heard: time.Now()})
	}
	if err := saveCache(dir, many); err != nil {
		t.Fatal(err)
	}
	if got, err := loadCache(dir, policy{}, time.Now()); err != nil || len(got) != maxCached || got[0].ID != many[0].ID {
		t.Errorf("%d relays, %v", len(got), err)
	}
}

func TestACacheThatIsNotWholeCostsNoMoreThanWhatIsBroken(t *testing.T) {
	now := time.Now().UTC()
	at := now.Format(time.RFC3339)
	_, a := stranger(t)
	key, b := stranger(t)
	good := fmt.Sprintf(`{"peer":%q,"addrs":["/ip4/9.9.9.9/tcp/1"],"heard":%q}`, a, at)
	list := func(entries ...string) string {
		return `{"version":1,"relays":[` + strings.Join(entries, ",") + `]}`
	}
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	of := fmt.Sprintf(`"record":%q,"heard"`, enc64(sealed(t, key, b, now, addr("/ip4/9.9.9.9/tcp/1"))))
	for _, c := range []struct {
		what, file string
		relays     int
		broken     bool
	}{
		{"a good one", list(good), 1, false},
		{"no file's content", "", 0, true},
		{"half a file", list(good)[:40], 0, true},
		{"zeros, as after a crash", strings.Repeat("\x00", 512), 0, true},
		{"a later version", `{"version":2,"relays":[]}`, 0, true},
		{"a bad peer beside a good one", list(`{"peer":"x"}`, good), 1, true},
		{"a bad address beside a good one", list(with("tcp/1", "tcp/x"), good), 1, true},
		{"a record of another peer", list(with(`"heard"`, of)), 0, true},
		{"a changed record", list(with(`"heard"`, `"record":"AAAA","heard"`)), 0, true},
		{"a private address that was only heard of", list(with("9.9.9.9", "10.0.0.1")), 0, false},
		{"a private address that gave a reservation", list(with("9.9.9.9", "10.0.0.1"), with(`"heard"`, fmt.Sprintf(`"reserved":%q,"heard"`, at)), good), 2, false},
		{"one of 31 days ago", list(with(at, now.Add(-31*24*time.Hour).Format(time.RFC3339))), 0, false},
		{"one of the future", list(with(at, now.Add(time.Hour).Format(time.RFC3339))), 1, false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, CacheFile), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadCache(dir, policy{}, now)
		if len(got) != c.relays || (err != nil) != c.broken {
			t.Errorf("%s: %d relays, %v", c.what, len(got), err)
		}
		for _, k := range got {
			if k.heard.After(now) {
				t.Errorf("%s: heard of in the future", c.what)
			}
		}
	}
}

func TestADonorStartsWithABrokenCacheAndMendsIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, CacheFile)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, func(_ *node, cfg *Config) { cfg.Dir = dir })
	_, id := stranger(t)
	n.Remember(peer.AddrInfo{ID: id}, addr("/ip4/9.9.9.9/tcp/443/tls/ws"))
	eventually(t, "whole cache", 2*time.Second, func() bool {
		got, err := loadCache(dir, policy{}, time.Now())
		return err == nil && len(got) == 1 && got[0].ID == id
	})
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(`{"version":1,"relays":[{"peer":"12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5","addrs":["/ip4/9.9.9.9/tcp/1"],"heard":"2026-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := parseCache("f", data, policy{}, epoch)
		for _, k := range got {
			if len(k.Addrs) == 0 || len(k.Addrs) > MaxAddrs || k.ID.Validate() != nil {
				t.Errorf("loaded %+v", k)
			}
		}
	})
}

func enc64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
