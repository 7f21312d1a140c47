package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// record keeps what was seen, for the tests of netcheck.Diagnose:
//
//	go test ./cmd/wce2e -run Netcheck -record
var record = flag.Bool("record", false, "write the reports of the netcheck tests to "+reports)

const (
	reports      = "../../node/netcheck/testdata/reports"
	quickWithin  = 30 * time.Second
	netchecks    = 3 // at the same time: more, and their time is this machine's
	netcheckOver = 2 * time.Minute
	// addressWithin is 6 s, and what a loaded machine adds, in seconds.
	addressWithin = 6 + 4
)

// name is that of the network, of the host in it, and of the recorded report.
func (n netchecked) name() string {
	switch {
	case n.patient:
		return n.profile + "-patient"
	case n.builtin:
		return n.profile + "-builtin"
	}
	return n.profile
}

// netchecked is what a report of a profile has to show at the least.
type netchecked struct {
	profile string
	patient bool                        // without --quick
	builtin bool                        // the built-in list, which leads nowhere in the lab
	ways    []string                    // transports by which a reservation was had; nil: none
	sign    func(netcheck.Report) error // nil: nothing in particular
}

var netcheckeds = []netchecked{
	{profile: "open", ways: []string{"tcp", "quic-v1", "webtransport", "wss", "ws"}},
	{profile: "home", ways: []string{"tcp", "quic-v1", "webtransport", "wss", "ws"}},
	{profile: "institutional", ways: []string{"wss", "ws"}, sign: some(netcheck.Connect, "tcp", netcheck.Timeout)},
	{profile: "institutional-reject", ways: []string{"wss", "ws"}, sign: all(some(netcheck.Connect, "tcp", netcheck.Refused), prohibited)},
	{profile: "dartmouth", ways: []string{"wss"}, sign: some(netcheck.Multistream, "tcp", netcheck.SecurityTimeout)},
	{profile: "dpi-multistream-rst", ways: []string{"wss", "quic-v1", "webtransport"}, sign: some(netcheck.Multistream, "tcp", netcheck.SecurityReset)},
	{profile: "quic-blocked", ways: []string{"tcp", "wss", "ws"}, sign: all(some(netcheck.QUIC, "quic-v1", netcheck.QUICIdleTimeout), answered(netcheck.Datagram, "quic-version"))},
	{profile: "udp-blocked", ways: []string{"tcp", "wss", "ws"}, sign: some(netcheck.Datagram, "quic-v1", netcheck.Timeout)},
	{profile: "pmtu-blackhole", ways: nil, sign: answered(netcheck.Size, "")},
	{profile: "tls-intercept", ways: []string{"wss", "ws"}},
	{profile: "proxy-auth", ways: []string{"wss"}},
	{profile: "dns-hijack", ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "captive-portal"},
	{profile: "blocked"},
	{profile: "syn-proxy", ways: []string{"tcp", "wss"}, sign: answered(netcheck.Connect, "dead")},
	{profile: "dpi-libp2p-alpn", ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "ipv6-broken", ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "doh-only", ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "dns-no-txt", ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "proxy-no-upgrade", ways: []string{"https"}},
	{profile: "proxy-443", ways: []string{"wss"}, sign: some(netcheck.ProxyTunnel, "tcp", netcheck.ProxyForbidden)},
	{profile: "proxy-wpad", ways: []string{"wss"}, sign: announced("pac")},
	{profile: "proxy-socks", ways: []string{"wss", "tcp"}, sign: announced("environment")},
	{profile: "udp-443-blocked", ways: []string{"tcp", "quic-v1", "wss"}, sign: some(netcheck.Datagram, "quic-v1", netcheck.Timeout)},
	{profile: "port-allow-list", ways: []string{"wss"}, sign: some(netcheck.Connect, "tcp", netcheck.Timeout)},
	{profile: "institutional", builtin: true, sign: all(answered(netcheck.Resolve, "doh"), explained)},
	{profile: "home", patient: true, ways: []string{"tcp", "quic-v1", "wss"}, sign: keptAlive},
	{profile: "tcp-idle-30s", patient: true, ways: []string{"tcp", "quic-v1", "wss"}},
	{profile: "udp-idle-15s", patient: true, ways: []string{"tcp", "quic-v1", "wss"}},
}

func TestNetcheckSeesWhatEachFirewallDoes(t *testing.T) {
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}},
	}
	for _, n := range netcheckeds {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: n.name(), Profile: n.profile})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: n.name(), Network: n.name()})
	}
	f := newFleet(t, l)
	_, addrs := f.ship("relay1").relay("relay")
	_, more := f.ship("relay2").relay("relay", "--http")
	if err := f.lab.Publish(t.Context(), "relays", slices.Concat(addrs, more)...); err != nil {
		t.Fatal(err)
	}
	list := slices.Concat([]string{"/dnsaddr/relays.mesh.wce2e.net", "/dnsaddr/nobody.mesh.wce2e.net"}, addrs, more)
	reports, errs := f.netcheckAll(netcheckeds, list)
	for i, n := range netcheckeds {
		t.Run(n.name(), func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			if *record {
				noErr(t, keep(n.name(), reports[i]))
			}
			took, lead := slowest(reports[i])
			t.Logf("%d records in %s; the slowest address took %.1f s: %s", len(reports[i].Records), reports[i].Ended.Sub(reports[i].Began).Round(time.Millisecond), took, lead)
			n.look(t, reports[i])
		})
	}
}

// A round trip of 600 ms is a satellite's: four times the links' latency.
func TestNetcheckSeesNoObstacleInDistance(t *testing.T) {
	l := &inventory.Lab{
		Latency:  150 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "house", Profile: "home"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "laptop", Network: "house"}},
	}
	f := newFleet(t, l)
	_, addrs := f.ship("relay1").relay("relay")
	far := netchecked{profile: "home", ways: []string{"tcp", "quic-v1", "webtransport", "wss"}}
	report, err := f.ship("laptop").netcheck(far, slices.DeleteFunc(addrs, func(a string) bool { return strings.HasPrefix(a, "/ip6/") }))
	if err != nil {
		t.Fatal(err)
	}
	if *record {
		noErr(t, keep("far", report))
	}
	took, lead := slowest(report)
	t.Logf("%d records in %s; the slowest address took %.1f s: %s", len(report.Records), report.Ended.Sub(report.Began).Round(time.Millisecond), took, lead)
	far.look(t, report)
	for _, rec := range report.Records {
		if rec.Failure != nil && rec.Target >= 0 && rec.ICMP == "" { // of UDP 443, where nobody listens
			t.Errorf("%s %s failed: %s: %s", rec.Transport, rec.Operation, *rec.Failure, rec.Error)
		}
	}
}

// netcheckAll looks at several networks, a few at a time.
func (f *fleet) netcheckAll(networks []netchecked, list []string) (reports []netcheck.Report, errs []error) {
	reports, errs = make([]netcheck.Report, len(networks)), make([]error, len(networks))
	places := make(chan struct{}, netchecks)
	var all sync.WaitGroup
	for i, n := range networks {
		all.Go(func() {
			if !n.patient { // who mostly waits takes nobody's place
				places <- struct{}{}
				defer func() { <-places }()
			}
			reports[i], errs[i] = f.ship(n.name()).netcheck(n, list)
		})
	}
	all.Wait()
	return reports, errs
}

// netcheck runs it on a host, as a login would.
func (s *ship) netcheck(n netchecked, list []string) (netcheck.Report, error) {
	var said networkExplained
	argv := []string{fleetBin, "node", "netcheck", "--json", "--dir", s.Home() + "/none"}
	if !n.patient {
		argv = append(argv, "--quick")
	}
	for _, a := range list {
		if !n.builtin {
			argv = append(argv, "--target", a)
		}
	}
	res, err := s.try(netcheckOver, argv...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("%s: exit %d: %s", s.name, res.Code, res.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(res.Stdout, &said)
	}
	return said.Report, err
}

func keep(profile string, r netcheck.Report) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	raw = bytes.ReplaceAll(raw, []byte(`{"id":`), []byte("\n{\"id\":")) // a line for each record
	return os.WriteFile(filepath.Join(reports, profile+".json"), append(raw, '\n'), 0o644)
}

func (n netchecked) look(t *testing.T, r netcheck.Report) {
	t.Helper()
	if took := r.Ended.Sub(r.Began); took > quickWithin && !n.patient {
		t.Errorf("it took %s, and not below %s", took, quickWithin)
	}
	if took, lead := slowest(r); took > addressWithin && !n.patient {
		t.Errorf("%s took %.1f s from its turn", lead, took)
	}
	var ways []string
	for _, rec := range r.Records {
		if rec.Operation == netcheck.Reserve && rec.Failure == nil && !slices.Contains(ways, rec.Transport) {
			ways = append(ways, rec.Transport)
		}
	}
	for _, w := range n.ways {
		if !slices.Contains(ways, w) {
			t.Errorf("no reservation over %s, only over %s\n%s", w, ways, ladder(r, w))
		}
	}
	if n.ways == nil && n.sign == nil && len(ways) > 0 {
		t.Errorf("there are reservations over %s, through a network that lets nothing out", ways)
	}
	if n.sign != nil {
		if err := n.sign(r); err != nil {
			t.Error(err)
		}
	}
}

// slowest is the address that took longest from its turn until all was known of it.
func slowest(r netcheck.Report) (took float64, lead string) {
	began := map[string]float64{}
	for _, rec := range r.Records {
		// once all is known
		after := rec.Proto == "echo" || slices.Contains([]netcheck.Operation{netcheck.Keepalive, netcheck.Flows, netcheck.Loss}, rec.Operation) ||
			rec.Proto == "tls" && (rec.Operation == netcheck.Size || rec.Operation == netcheck.Harmless)
		if rec.Lead == "" || after {
			continue
		}
		if _, known := began[rec.Lead]; !known {
			began[rec.Lead] = rec.T0
		}
		if since := rec.T0 + rec.T - began[rec.Lead]; since > took {
			took, lead = since, rec.Lead
		}
	}
	return took, lead
}

func ladder(r netcheck.Report, transport string) string {
	var b strings.Builder
	for _, rec := range r.Records {
		if rec.Transport == transport {
			printRecord(&b, rec)
		}
	}
	return b.String()
}

func all(signs ...func(netcheck.Report) error) func(netcheck.Report) error {
	return func(r netcheck.Report) error {
		for _, s := range signs {
			if err := s(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// some is that an operation failed in one way, and in no other. IPv6 is left out: most
// of these networks have none.
func some(op netcheck.Operation, transport string, want netcheck.Failure) func(netcheck.Report) error {
	return func(r netcheck.Report) error {
		seen := false
		for _, rec := range r.Records {
			if rec.Operation != op || rec.Transport != transport || rec.Failure == nil || strings.HasPrefix(rec.Addr, "[") {
				continue
			}
			seen = true
			if *rec.Failure != want {
				return fmt.Errorf("%s %s failed with %s, want %s: %s", transport, op, *rec.Failure, want, rec.Error)
			}
		}
		if !seen {
			return fmt.Errorf("%s %s never failed, want %s", transport, op, want)
		}
		return nil
	}
}

// answered is that an operation worked at least once.
func answered(op netcheck.Operation, proto string) func(netcheck.Report) error {
	return func(r netcheck.Report) error {
		if !slices.ContainsFunc(r.Records, func(rec netcheck.Record) bool {
			return rec.Operation == op && (proto == "" || rec.Proto == proto) && rec.Failure == nil
		}) {
			return fmt.Errorf("%s %s was never answered", op, proto)
		}
		return nil
	}
}

// announced is that the machine was told of a proxy, and went through it.
func announced(source string) func(netcheck.Report) error {
	return func(r netcheck.Report) error {
		if len(r.Local.Proxies) != 1 || r.Local.Proxies[0].Source != source {
			return fmt.Errorf("of proxies it knows %+v", r.Local.Proxies)
		}
		return answered(netcheck.ProxyTunnel, "")(r)
	}
}

// explained: there is at least one record about each target.
func explained(r netcheck.Report) error {
	for i, target := range r.Targets {
		if !slices.ContainsFunc(r.Records, func(rec netcheck.Record) bool {
			return rec.Target == i || slices.Contains(target.Leads, rec.Lead) || strings.Contains(rec.Facts.Question, strings.Split(target.Addr, "/")[2])
		}) {
			return fmt.Errorf("there is no word about %s", target.Addr)
		}
	}
	return nil
}

// keptAlive: silence kills nothing.
func keptAlive(r netcheck.Report) error {
	n := 0
	for _, rec := range r.Records {
		if rec.Operation == netcheck.Keepalive {
			n++
			if rec.Failure != nil {
				return fmt.Errorf("%s did not survive %.0f s: %s", rec.Transport, rec.Facts.Silence, rec.Error)
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no connection was left silent")
	}
	return nil
}

// prohibited: an ICMP error came back.
func prohibited(r netcheck.Report) error {
	if !slices.ContainsFunc(r.Records, func(rec netcheck.Record) bool { return rec.ICMP == "admin-prohibited" }) {
		return fmt.Errorf("no ICMP error was seen")
	}
	return nil
}
