package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// script answers always the same.
func script(answer string) string {
	return fmt.Sprintf("function FindProxyForURL(url, host) { return %q }", answer)
}

// publish puts a web server with one page on the network, and counts who asks.
func publish(n *network, host, ip, path, page string) *atomic.Int32 {
	asked := new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != path || r.Host != host {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(page))
	}))
	n.t.Cleanup(server.Close)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = ip
	n.leads[ip+":80"] = server.Listener.Addr().String()
	return asked
}

func TestProxyThatTheNetworkAnnounces(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{"in its domain": "wpad.example.edu", "by the bare name": "wpad"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := corporate(t, &web{})
			asked := publish(n, host, "10.0.0.2", "/wpad.dat", script("PROXY proxy.example.edu:3128; DIRECT"))
			f := n.finder(nil)
			dial(t, f, relay, proxyURL)
			dial(t, f, relay, proxyURL)
			if n := asked.Load(); n != 1 {
				t.Errorf("the script was fetched %d times", n)
			}
			if want := []string{proxyURL + " of WPAD at " + host}; !slices.Equal(n.found, want) {
				t.Errorf("found %q", n.found)
			}
			f.Reset()
			dial(t, f, relay, proxyURL)
			if n := asked.Load(); n != 2 {
				t.Errorf("on another network the script was fetched %d times in all", n)
			}
		})
	}
}

func TestDirectWayDoesNotWaitForAnAnnouncement(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.lead(relayAddr, serve(t, echo))
	silent := func(ctx context.Context, host string) ([]netip.Addr, error) {
		if strings.HasPrefix(host, "wpad") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return n.lookup(ctx, host)
	}
	soon(t, stagger, func() {
		f := n.finder(nil)
		f.Lookup = silent
		dial(t, f, relay, "")
	})
}

func TestAnnouncedProxyHelpsWhereTheDirectWayIsSilent(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{})
	n.lead(relayAddr, "")
	publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", script("PROXY proxy.example.edu:3128"))
	began := time.Now()
	dial(t, n.finder(nil), relay, proxyURL)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
}

func TestScriptThatAPersonNamed(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{})
	publish(n, "config.example.edu", "10.0.0.2", "/proxy.pac", script("PROXY proxy.example.edu:3128"))
	path := filepath.Join(t.TempDir(), "proxy.pac")
	if err := os.WriteFile(path, []byte(script("PROXY proxy.example.edu:3128")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://config.example.edu/proxy.pac", "file://" + path, path} {
		f := n.finder(map[string]string{pacURL: url, "HTTPS_PROXY": "http://stale.example.edu:1"})
		f.NoDiscovery = true // which is about what nobody named
		dial(t, f, relay, proxyURL)
	}
}

func TestScriptIsAskedForEachTarget(t *testing.T) {
	t.Parallel()
	w := &web{}
	n := corporate(t, w)
	publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", `
		function FindProxyForURL(url, host) {
			if (url == "https://inside.example.edu/") return "DIRECT";
			if (isInNet(dnsResolve("proxy.example.edu"), "10.0.0.0", "255.0.0.0") && url == "https://relay.example.org:4001/")
				return "PROXY proxy.example.edu:3128";
			return "PROXY nowhere.example.edu:3128; PROXY proxy.example.edu:3128";
		}`)
	n.names["inside.example.edu"] = "10.0.0.3"
	n.lead("10.0.0.3:443", serve(t, echo))
	f := n.finder(nil)
	for target, want := range map[string]string{"inside.example.edu:443": "", "relay.example.org:4001": proxyURL, relay: proxyURL} {
		dial(t, f, target, want)
	}
	if targets, _ := w.saw(); slices.Contains(targets, "inside.example.edu:443") {
		t.Error("the proxy was asked for what is inside")
	}
}

func TestAScriptIsAskedByFewAtOnceAndOnceForEachTarget(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", `
		function FindProxyForURL(url, host) { dnsResolve("slow.example.edu"); return "PROXY a:1"; }`)
	var at, most, all atomic.Int32
	f := n.finder(nil)
	f.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		if host != "slow.example.edu" {
			return n.lookup(ctx, host)
		}
		all.Add(1)
		for now, was := at.Add(1), most.Load(); now > was && !most.CompareAndSwap(was, now); {
			was = most.Load()
		}
		defer at.Add(-1)
		time.Sleep(300 * time.Millisecond)
		return nil, nil
	}
	var asking sync.WaitGroup
	for range 6 {
		for _, target := range []string{relay, "relay2.example.org:443"} {
			asking.Go(func() {
				if ways, err := f.ask(t.Context(), f.announced(), target); err != nil || len(ways) != 1 {
					t.Errorf("%v, %v", ways, err)
				}
			})
		}
	}
	asking.Wait()
	if most.Load() > maxAsking || all.Load() > 2*maxAsking {
		t.Errorf("it was asked %d times, by %d at once", all.Load(), most.Load())
	}
}

func TestAScriptThatTookTooLongIsAskedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it waits 5 s for a script to be given up")
	}
	t.Parallel()
	n := newNetwork(t)
	publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", `
		function FindProxyForURL(url, host) {
			for (var i = 0; i < 20; i++) dnsResolve("silent" + i + ".example.edu");
			return "PROXY a:1";
		}`)
	var answers atomic.Bool
	f := n.finder(nil)
	f.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		if strings.HasPrefix(host, "silent") && !answers.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return n.lookup(ctx, host)
	}
	if ways, err := f.ask(t.Context(), f.announced(), relay); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, %v", ways, err)
	}
	if _, known := f.announced().answer(relay); known {
		t.Error("it is remembered that there is no proxy")
	}
	answers.Store(true) // the network is up now
	if ways, err := f.ask(t.Context(), f.announced(), relay); err != nil || len(ways) != 1 {
		t.Errorf("%v, %v", ways, err)
	}
	if ways, known := f.announced().answer(relay); !known || len(ways) != 1 {
		t.Errorf("remembered: %v, %v", ways, known)
	}
}

func TestAnswerOfTheScriptOrdersTheWays(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]string{
		"DIRECT":                         {""},
		"PROXY a:1":                      {"http://a:1", ""},
		"PROXY a:1; DIRECT; HTTPS b":     {"http://a:1", "", "https://b:443"},
		"DIRECT; PROXY a:1":              {"", "http://a:1"},
		"SOCKS5 a:1;PROXY a:1;SOCKS a:1": {"socks5://a:1", "http://a:1", ""},
	} {
		n := newNetwork(t)
		publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", script(answer))
		f := n.finder(nil)
		if _, err := f.ask(t.Context(), f.announced(), relay); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range f.plan(relay) {
			got = append(got, a.route)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q makes %q, not %q", answer, got, want)
		}
	}
}

func TestScriptThatIsOfNoUseLeavesTheDirectWay(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"a portal's page":   "<html>Welcome</html>",
		"an exception":      "function FindProxyForURL() { throw new Error('the cat') }",
		"a crash":           "function FindProxyForURL() { return eval('('.repeat(1 << 20)) }",
		"no way that works": script("PROXY nowhere.example.edu:1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			n.lead(relayAddr, serve(t, echo))
			publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", page)
			f := n.finder(nil)
			<-f.announced().done
			for range 2 {
				dial(t, f, relay, "")
			}
		})
	}
}

func TestAnnouncementStaysWithinTheMachinesOwnDomains(t *testing.T) {
	for name, c := range map[string]struct{ domains, want []string }{
		"none":                                 {nil, []string{"wpad"}},
		"as they are, and nothing above them":  {[]string{"cs.example.edu", "Example.EDU."}, []string{"wpad.cs.example.edu", "wpad.example.edu", "wpad"}},
		"a private top level":                  {[]string{"lan", "corp.internal"}, []string{"wpad.lan", "wpad.corp.internal", "wpad"}},
		"those where strangers register names": {[]string{"com", "co.uk", "github.io", "."}, []string{"wpad"}},
	} {
		if got := wpadNames(c.domains); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}

func TestAnnouncementThatLeadsElsewhereIsNotFollowed(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{})
	elsewhere := publish(n, "wpad.example.com", "10.0.0.4", "/wpad.dat", script("PROXY proxy.example.edu:3128"))
	at := serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte("HTTP/1.1 302 Found\r\nLocation: http://wpad.example.com/wpad.dat\r\nContent-Length: 0\r\n\r\n"))
	})
	n.names["wpad.example.edu"] = "10.0.0.2"
	n.lead("10.0.0.2:80", at)
	_ = fails(t, n.finder(nil), relay)
	if elsewhere.Load() != 0 {
		t.Error("it was followed")
	}
}

func TestDiscoveryCanBeLeftAlone(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{})
	asked := publish(n, "wpad.example.edu", "10.0.0.2", "/wpad.dat", script("PROXY proxy.example.edu:3128"))
	f := n.finder(nil)
	f.NoDiscovery = true
	_ = fails(t, f, relay)
	if asked.Load() != 0 {
		t.Error("the network was asked")
	}
}

func TestNetworkThatAnnouncesNothingIsNotInTheError(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	err := fails(t, n.finder(nil), relay)
	if want := "dial " + relay + ": directly: dial tcp: network is unreachable"; err.Error() != want {
		t.Errorf("%q, not %q", err, want)
	}
}

func TestScriptThatIsMissingWhereAPersonNamedOneIsInTheError(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	err := fails(t, n.finder(map[string]string{pacURL: "http://nowhere.example.edu/proxy.pac"}), relay)
	if !strings.Contains(err.Error(), pacURL) || !strings.Contains(n.logged(), pacURL) {
		t.Errorf("error %v, log %s", err, n.logged())
	}
}
