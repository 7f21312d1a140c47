package traversal

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// zone answers from a table; a name that is not in it does not exist, and one
// with the answer "silence" is never answered.
type zone struct {
	txt map[string][]string
	ip  map[string][]string
}

func (z zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return z.look(ctx, z.txt, name)
}

func (z zone) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	texts, err := z.look(ctx, z.ip, name)
	var out []net.IPAddr
	for _, s := range texts {
		out = append(out, net.IPAddr{IP: net.ParseIP(s)})
	}
	return out, err
}

func (z zone) look(ctx context.Context, table map[string][]string, name string) ([]string, error) {
	answers, ok := table[name]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	if slices.Contains(answers, "silence") {
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: name, IsTimeout: true}
	}
	return answers, nil
}

const (
	idA = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
	idB = "QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa"
)

// expanded is what a name expands to, as text, sorted; and the events.
func expanded(t *testing.T, z zone, name string, within time.Duration) ([]string, []wire.Event, error) {
	t.Helper()
	past := &history{}
	k := &Keeper{Resolver: z, Record: past.record}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var mu sync.Mutex
	var got []string
	err := k.expand(ctx, ma.StringCast(name), k.resolver(), func(id peer.ID, a ma.Multiaddr) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, a.String()+"/p2p/"+id.String())
	})
	slices.Sort(got)
	return got, past.of(wire.ResolveEnded), err
}

func TestNamesAreExpandedToTheEnd(t *testing.T) {
	z := zone{
		txt: map[string][]string{
			"_dnsaddr.boot.example": {
				"dnsaddr=/dnsaddr/a.example/p2p/" + idA,
				"dnsaddr=/dnsaddr/b.example/p2p/" + idB,
				"dnsaddr=/dnsaddr/gone.example/p2p/" + idA,
				"something else",
			},
			"_dnsaddr.a.example": {
				"dnsaddr=/ip4/11.0.0.1/udp/4001/quic-v1/p2p/" + idA,
				"dnsaddr=/dns4/ws.example/tcp/443/wss/p2p/" + idA,
				"dnsaddr=/ip4/11.0.0.9/tcp/4001/p2p/" + idB, // not whom we asked about
			},
			"_dnsaddr.b.example": {"dnsaddr=/ip4/11.0.0.2/tcp/4001/p2p/" + idB},
		},
		ip: map[string][]string{"ws.example": {"11.0.0.1", "2a00::1"}},
	}
	got, events, err := expanded(t, z, "/dnsaddr/boot.example/p2p/"+idA, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/ip4/11.0.0.1/tcp/443/tls/sni/ws.example/ws/p2p/" + idA,
		"/ip4/11.0.0.1/udp/4001/quic-v1/p2p/" + idA,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	failed := slices.DeleteFunc(events, func(e wire.Event) bool { return e.Outcome == wire.OK })
	if len(events) == 0 || len(failed) != 1 || failed[0].Failure != "dns_nxdomain_error" || !strings.Contains(failed[0].Addr, "gone.example") {
		t.Errorf("failed: %+v", failed)
	}

	got, _, err = expanded(t, z, "/dnsaddr/boot.example", time.Second)
	if err != nil || len(got) != 3 {
		t.Errorf("without a peer in mind: %q, %v", got, err)
	}
}

func TestNamesThatLeadNowhereEnd(t *testing.T) {
	z := zone{txt: map[string][]string{
		"_dnsaddr.loop.example":  {"dnsaddr=/dnsaddr/loop.example"},
		"_dnsaddr.empty.example": {"v=spf1 -all"},
		"_dnsaddr.bare.example":  {"dnsaddr=/ip4/11.0.0.1/tcp/4001"},
		"_dnsaddr.mute.example":  {"silence"},
	}}
	for name, failure := range map[string]string{
		"/dnsaddr/loop.example": "", "/dnsaddr/bare.example": "",
		"/dnsaddr/empty.example":                    "dns_no_answer",
		"/dnsaddr/mute.example":                     "generic_timeout_error",
		"/dnsaddr/none.example":                     "dns_nxdomain_error",
		"/dns4/none.example/tcp/443/wss/p2p/" + idA: "dns_nxdomain_error",
	} {
		got, events, err := expanded(t, z, name, 100*time.Millisecond)
		if err == nil || len(got) != 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		last := events[len(events)-1]
		if last.Failure != failure || (failure != "") != (last.Outcome == wire.Failed) {
			t.Errorf("%s: %+v", name, last)
		}
	}
}

func TestDeadNameDoesNotDelayRawAddresses(t *testing.T) {
	t.Parallel()
	r := newHost(t, loopback)
	newRelay(t, r)
	z := zone{txt: map[string][]string{"_dnsaddr.mute.example": {"silence"}}}
	k := &Keeper{Host: newHost(t), Resolver: z, Bootstrap: []string{"/dnsaddr/mute.example", full(r)}}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, r))
}

func TestRelayBehindANameIsFound(t *testing.T) {
	t.Parallel()
	r := newHost(t, "/ip4/127.0.0.1/tcp/0/tls/ws")
	newRelay(t, r)
	z := zone{ip: map[string][]string{"relay.example": {"127.0.0.1"}}}
	name := "/dns4/relay.example/tcp/" + port(r.Addrs()[0]) + "/tls/ws/p2p/" + r.ID().String()
	k := &Keeper{Host: newHost(t), Resolver: z, Bootstrap: []string{name}}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, r))
	want := "/ip4/127.0.0.1/tcp/" + port(r.Addrs()[0]) + "/tls/sni/relay.example/ws"
	if got := k.Relays()[0].Addr; got != want {
		t.Errorf("the relay's address is %s, not %s", got, want)
	}
}
