package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// gettingOut is what a donor behind one profile has to show besides a
// reservation and a job through the circuit.
type gettingOut struct {
	profile    string
	transports []string // one of which it must have used; none: any
	proxied    bool
	inspected  bool
	names      bool // it knows its relays by name only
	plain      bool // it knows the relay's plain WebSocket on 80, and nothing else
	meanwhile  func(*getout) error
	after      func(*getout) error // before the job
}

const (
	getOutWithin = 90 * time.Second // with two dozen donors starting on two cores
	getOutAtOnce = 8                // donors that are looked after at the same time
)

var gettingOuts = []gettingOut{
	{profile: "dartmouth", transports: []string{"wss"}},
	{profile: "institutional", transports: []string{"wss"}},
	{profile: "udp-blocked", transports: []string{"tcp", "wss"}},
	{profile: "quic-blocked", transports: []string{"tcp", "wss"}},
	{profile: "dpi-multistream-rst", transports: []string{"quic-v1", "webtransport", "wss"}},
	{profile: "dpi-multistream-drop", transports: []string{"quic-v1", "webtransport", "wss"}},
	{profile: "dpi-libp2p-alpn"},
	{profile: "dpi-libp2p-alpn + udp-blocked", transports: []string{"tcp", "wss"}},
	{profile: "proxy-only", transports: []string{"wss"}, proxied: true},
	{profile: "proxy-auth", transports: []string{"wss"}, proxied: true, after: noCredentialsTold},
	{profile: "proxy-443", transports: []string{"wss"}, proxied: true},
	{profile: "proxy-wpad", transports: []string{"wss"}, proxied: true},
	{profile: "proxy-socks", proxied: true},
	{profile: "proxy-no-upgrade", transports: []string{"https"}, inspected: true},
	{profile: "tls-intercept", transports: []string{"wss"}, inspected: true},
	{profile: "tls-intercept-untrusted", transports: []string{"ws"}, plain: true},
	{profile: "dns-no-txt", names: true},
	{profile: "dns-hijack", names: true},
	{profile: "doh-only", names: true},
	{profile: "captive-portal", meanwhile: logIn},
	{profile: "pmtu-blackhole", after: narrow},
	{profile: "syn-proxy"},
	{profile: "udp-idle-15s + dpi-multistream-rst", after: stay},
	{profile: "tcp-idle-30s + udp-blocked", after: stay},
	{profile: "ipv6-broken"},
	{profile: "nat-rebind", after: rebind},
	{profile: "blocked", meanwhile: lift},
}

// network is the name of the network behind the profile, and of the one host in
// it: the first of the profile's parts, since names are short.
func (g gettingOut) network() string {
	first, more, _ := strings.Cut(g.profile, " + ")
	return first + more[:min(len(more), 2)]
}

// getout is one donor on its way.
type getout struct {
	gettingOut
	fleet     *fleet
	ship      *ship
	donor     *daemon
	submitter *daemon
	status    wire.Status // once it is out
}

func TestADonorGetsOutFromBehindEveryFirewallAndAnswersAJob(t *testing.T) {
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "house", Profile: "home"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}, {Name: "laptop", Network: "house"}},
	}
	for _, g := range gettingOuts {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: g.network(), Profile: g.profile})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: g.network(), Network: g.network()})
	}
	f := newFleet(t, l)
	laptop := f.ship("laptop")
	self := laptop.identity("submitter")
	_, addrs := f.ship("relay1").relay("relay")
	_, more := f.ship("relay2").relay("relay", "--http")
	if err := f.lab.Publish(t.Context(), "relays", slices.Concat(addrs, more)...); err != nil {
		t.Fatal(err)
	}
	submitter := laptop.start("submitter", bootstraps(addrs...)...)
	donors := make([]*getout, len(gettingOuts))
	for i, g := range gettingOuts {
		donors[i] = &getout{gettingOut: g, fleet: f, ship: f.ship(g.network()), submitter: submitter}
	}
	errs := make([]error, len(donors))
	places := make(chan struct{}, getOutAtOnce)
	var all sync.WaitGroup
	for i, g := range donors {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			errs[i] = g.prove(g.list(addrs, more), self)
		})
	}
	all.Wait()
	for i, g := range donors {
		t.Run(g.profile, func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			t.Logf("%s over %s%s in %.0f ms: %s", g.status.Way.Addr, g.status.Way.Transport, through(g.status.Way.Route), g.status.Way.TookMS, g.status.Way.Why)
		})
	}
}

func bootstraps(addrs ...string) []string {
	var args []string
	for _, a := range addrs {
		args = append(args, "--bootstrap", a)
	}
	return args
}

// list is what the donor is told to start from.
func (g *getout) list(addrs, more []string) []string {
	switch {
	case g.names:
		return []string{"/dnsaddr/relays.mesh.wce2e.net"}
	case g.plain:
		return slices.DeleteFunc(slices.Clone(more), func(a string) bool { return wire.TransportOf(a) != "ws" })
	}
	return slices.DeleteFunc(slices.Concat(addrs, more), func(a string) bool { return wire.TransportOf(a) == "ws" })
}

// prove starts the donor and follows it until a job has been answered.
func (g *getout) prove(list []string, submitter string) (err error) {
	g.donor = g.ship.start("donor", append(bootstraps(list...), "--allow", submitter)...)
	defer g.donor.stop()
	if g.meanwhile != nil {
		if err := g.meanwhile(g); err != nil {
			return err
		}
	}
	if g.status, err = g.donor.await("reservation", getOutWithin, func(st wire.Status) bool { return reserved(st) && st.Way != nil }); err != nil {
		return err
	}
	if err := g.wayIsRight(); err != nil {
		return err
	}
	if g.after != nil {
		if err := g.after(g); err != nil {
			return err
		}
	}
	return g.job()
}

// job sends a job by whichever circuit address leads to the donor.
func (g *getout) job() error {
	var errs []error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		st, err := g.donor.status()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, to := range st.CircuitAddrs {
			if err = g.submitter.job(to); err == nil {
				return nil
			}
			errs = append(errs, err)
		}
	}
	return fmt.Errorf("no job was answered: %w", errors.Join(errs...))
}

// wayIsRight compares how the donor got out with what its firewall lets through.
func (g *getout) wayIsRight() error {
	w := g.status.Way
	if len(g.transports) > 0 && !slices.Contains(g.transports, w.Transport) {
		return fmt.Errorf("it got out over %s, and not over one of %v; it tried:\n%s", w.Transport, g.transports, attempts(g.status))
	}
	if (w.Route != "") != g.proxied {
		return fmt.Errorf("it got out by the route %q", w.Route)
	}
	inspected := slices.ContainsFunc(g.status.Relays, func(r wire.RelayStatus) bool { return r.Inspected != nil && *r.Inspected })
	if inspected != g.inspected {
		return fmt.Errorf("it says of being inspected: %t, want %t: %+v", inspected, g.inspected, g.status.Relays)
	}
	return nil
}

// noCredentialsTold looks for the proxy's password in all that the donor says.
func noCredentialsTold(g *getout) error {
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	secret, err := g.ship.ReadFrom(ctx, ".proxy-credentials", 0, 1<<10)
	if err != nil {
		return err
	}
	_, password, found := strings.Cut(strings.TrimSpace(string(secret)), ":")
	if !found || password == "" {
		return fmt.Errorf("the host has no credentials to be kept: %q", secret)
	}
	said, err := g.ship.ReadFrom(ctx, g.donor.dir+"/events.jsonl", 0, 1<<20)
	if err == nil && strings.Contains(string(said), password) {
		err = errors.New("the proxy's password is in the events")
	}
	return err
}

// logIn waits until the donor has noticed the portal, and half a minute in all,
// and then logs in as a person at the portal's page does.
func logIn(g *getout) error {
	const before = 30 * time.Second
	began := time.Now()
	st, err := g.donor.await("word of the portal", before, func(st wire.Status) bool { return st.Portal != "" })
	if err != nil {
		return err
	}
	if reserved(st) {
		return errors.New("it got out although nobody has logged in")
	}
	time.Sleep(before - time.Since(began))
	return g.post(8080, "/login")
}

// post makes a request to the router of the donor's network.
func (g *getout) post(port int, path string) error {
	var router netip.Addr
	for _, h := range g.fleet.lab.Hosts {
		if h.Name == g.ship.name {
			b := h.Addr.As4()
			b[3] = 1
			router = netip.AddrFrom4(b)
		}
	}
	request := fmt.Sprintf(`exec 3<>/dev/tcp/%s/%d; printf 'POST %s HTTP/1.1\r\nHost: portal.lan\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' >&3; cat <&3`, router, port, path)
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	res, err := g.ship.Exec(ctx, []string{"bash", "-c", request}, nil)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("log in: exit %d: %s", res.Code, res.Stderr)
	}
	return err
}

// narrow waits until the donor has found out that full-size packets vanish.
func narrow(g *getout) error {
	for end := time.Now().Add(getOutWithin); time.Now().Before(end); time.Sleep(time.Second) {
		if len(g.donor.of(wire.PathNarrow)) > 0 {
			_, err := g.donor.await("reservation over small packets", getOutWithin, reserved)
			return err
		}
	}
	return errors.New("it did not notice that full-size packets vanish")
}

// stay watches for longer than the firewall's timer that no connection to a
// relay is lost.
func stay(g *getout) error {
	const longer = 45 * time.Second
	time.Sleep(longer)
	if lost := g.donor.of(wire.ReservationLost); len(lost) > 0 {
		return fmt.Errorf("a reservation was lost: %s", lost[0].Err)
	}
	return nil
}

// rebind reboots the donor's router.
func rebind(g *getout) error {
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	if err := g.fleet.lab.Rebind(ctx, g.network()); err != nil {
		return err
	}
	time.Sleep(12 * time.Second) // a dead path is noticed in 10 s
	return nil
}

// lift waits until the donor has tried in vain for a while, politely, and lifts
// the block.
func lift(g *getout) error {
	const blocked = 25 * time.Second
	time.Sleep(blocked)
	st, err := g.donor.status()
	switch {
	case err != nil:
		return err
	case reserved(st):
		return errors.New("it got out of a network that lets nothing out")
	case !slices.ContainsFunc(st.Tried, func(a wire.Attempt) bool { return a.Outcome == wire.Failed }):
		return errors.New("it does not say how it failed")
	case st.Dials.Started > 100:
		return fmt.Errorf("%d dials in %s are not polite", st.Dials.Started, blocked)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	return g.fleet.lab.SetProfile(ctx, g.network(), "home")
}
