package proxy

import (
	"slices"
	"testing"
)

func TestEachProxyIsListedOnceAndWithoutItsPassword(t *testing.T) {
	env := map[string]string{
		"HTTPS_PROXY": "http://me:secret@proxy.example:3128", "HTTP_PROXY": "http://proxy.example:3128",
		"ALL_PROXY": "socks5://socks.example", "NO_PROXY": "inside.example",
	}
	f := &Finder{Getenv: func(name string) string { return env[name] }, NoDiscovery: true}
	var got []string
	for _, p := range f.Proxies(t.Context(), "relay.example.org:443") {
		got = append(got, p.URL+" "+p.Source)
		if want := p.Source == "HTTPS_PROXY"; p.Credentials != want || p.Script {
			t.Errorf("%+v", p)
		}
	}
	if want := []string{"socks5://socks.example:1080 ALL_PROXY", "http://proxy.example:3128 HTTPS_PROXY"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := f.Proxies(t.Context(), "www.inside.example:443"); len(got) > 0 {
		t.Errorf("what NO_PROXY names goes by %+v", got)
	}
}

func TestAProxyThatWantsALoginIsKnownByItsAsking(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*web{"asks": {login: "user:hunter2"}, "does not": {}} {
		f := corporate(t, w).finder(withProxy())
		f.Credentials = credentialsAt(t, 0o600, "user:hunter2")
		by := f.Proxies(t.Context(), relay)[0]
		conn, err := f.DialThrough(t.Context(), by, relay)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got, want := f.WantsLogin(by), w.login != ""; got != want {
			t.Errorf("a proxy that %s: %v", name, got)
		}
	}
}
