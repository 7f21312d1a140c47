//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/inventory"
)

// Every profile proves itself: with plain sockets, before any libp2p, each of
// its rules and services is seen to do what it says. Proofs run in lab init,
// which holds every namespace of the lab; hosts need no process for them.

const (
	// proofTimeout is for one proof on a machine that is busy with other labs.
	proofTimeout = 60 * time.Second
	// provingLatency of each link is enough for packets to cross: long round trips
	// would only make silence longer.
	provingLatency = time.Millisecond
	// provingAtOnce is how many networks prove themselves at the same time. They
	// wait for what must not come more than they compute.
	provingAtOnce = 24
)

// SelfTest builds a lab with a network of each profile (nil means all of them),
// and has each prove itself. Timers are shortened to seconds in it. The error
// is one of building the lab: what a profile fails to do stands in its proofs.
func SelfTest(ctx context.Context, log *slog.Logger, profiles ...string) ([]Proof, error) {
	if len(profiles) == 0 {
		profiles = profileNames()
	}
	var found []Proof
	for some := range slices.Chunk(profiles, maxLinks/3) { // each has a host or two
		more, err := selfTest(ctx, log, some)
		if err != nil {
			return found, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// Mutants are networks that lack one thing each of what a profile says of itself:
// "institutional without drop-udp". The proof of what is missing must fail behind
// every one of them, or else it proves nothing.
func Mutants(profiles ...string) ([]string, error) {
	if len(profiles) == 0 {
		profiles = profileNames()
	}
	var names []string
	for _, name := range profiles {
		p, err := profileNamed(name)
		if err != nil {
			return nil, err
		}
		for _, c := range p.claims() {
			if c.name == waysName { // it follows from the others
				continue
			}
			if m := p.Name + without + c.name; !slices.Contains(names, m) {
				names = append(names, m)
			}
		}
	}
	return names, nil
}

// Mutate has the mutants of profiles (none means all) prove what they lack. One
// whose proof stands is tried once more, when the others are gone: on a busy
// machine an answer may take longer than proofs wait for silence (measured: 1 of
// 187, with 20 processes waiting for two cores).
func Mutate(ctx context.Context, log *slog.Logger, profiles ...string) ([]Proof, error) {
	mutants, err := Mutants(profiles...)
	if err != nil {
		return nil, err
	}
	found, err := SelfTest(ctx, log, mutants...)
	if err != nil {
		return nil, err
	}
	stands := func(p Proof) bool { return p.Err == "" }
	var again []string
	for _, p := range found {
		if stands(p) {
			again = append(again, p.Profile)
		}
	}
	if len(again) == 0 {
		return found, nil
	}
	more, err := SelfTest(ctx, log, again...)
	return append(slices.DeleteFunc(found, stands), more...), err
}

func selfTest(ctx context.Context, log *slog.Logger, profiles []string) (found []Proof, err error) {
	l, err := Up(ctx, Config{Lab: provingGround(profiles), Log: log, proving: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return l.prove(ctx)
}

// provingGround is a lab with a network of each profile, and a host in it, or two
// where hosts are to reach each other.
func provingGround(profiles []string) *inventory.Lab {
	l := &inventory.Lab{Latency: provingLatency}
	for i, p := range profiles {
		name := fmt.Sprintf("network%d", i)
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: name, Profile: p})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: fmt.Sprintf("host%d", i), Network: name})
		if prof, err := profileNamed(p); err == nil && prof.draft().hairpin {
			l.Hosts = append(l.Hosts, inventory.LabHost{Name: fmt.Sprintf("neighbour%d", i), Network: name})
		}
	}
	return l
}

// prove has every network with a host in it prove its profile.
func (l *Lab) prove(ctx context.Context) ([]Proof, error) {
	s, err := l.order(ctx, command{Do: prove})
	return s.Proofs, err
}

// prove runs the proofs of all networks, those of one network in order.
func (n *network) prove() ([]Proof, error) {
	trials, err := n.trials()
	if err != nil {
		return nil, err
	}
	found := make([][]Proof, len(trials))
	places := make(chan struct{}, provingAtOnce)
	var all sync.WaitGroup
	for i, t := range trials {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			found[i] = t.proveAll()
		})
	}
	all.Wait()
	return slices.Concat(found...), nil
}

// trials makes one of every network that has a host.
func (n *network) trials() ([]*trial, error) {
	var list []*trial
	of := map[string]*trial{}
	for i, m := range n.plan.Machines {
		if m.Bystander {
			continue
		}
		host := place{n.hosts[i], m.own()}
		if t := of[m.Network]; t != nil {
			t.hosts = append(t.hosts, host)
			continue
		}
		t, err := n.trial(len(list), m, host)
		if err != nil {
			return nil, fmt.Errorf("prepare the proofs of network %s: %w", m.Network, err)
		}
		list, of[m.Network] = append(list, t), t
	}
	return list, nil
}

func (n *network) trial(i int, m machine, host place) (*trial, error) {
	prof, err := profileNamed(m.Profile)
	if err != nil {
		return nil, err
	}
	t := &trial{profile: prof, host: host, hosts: []place{host}, router: host, egress: n.plan.egress(m), pki: n.pki,
		host6: place{host.ns, m.Addr6.Addr()}, stranger: place{n.core, provingServer(i, strangers)}, nobody: provingServer(i, nobodys)}
	for nth := range provingServers {
		t.servers = append(t.servers, place{n.core, provingServer(i, byte(nth+1))})
	}
	t.server, t.second = t.servers[0], t.servers[1]
	if n.plan.IPv6 {
		t.server6 = place{n.core, inside6(0x30, i, 1)}
	}
	if m.Site >= 0 {
		s := n.plan.Sites[m.Site]
		t.router, t.router6 = place{n.sites[m.Site], s.router()}, place{n.sites[m.Site], s.LAN6.Addr()}
		t.outer, t.front = t.stranger, t.egress
		if s.hasCarrier() {
			t.outer, t.front = place{n.edges[m.Site], s.Carrier.Core}, s.Carrier.Addr
		}
		t.reboot = func() error { return n.restart(m.Site, s.Profile) }
		t.wire = n.wires[m.Site]
	}
	if t.equipment, err = n.equipment(m); err != nil {
		return nil, err
	}
	n.name(t, fmt.Sprintf("server%d", i))
	return t, n.settleServers(t)
}

// name gives the trial's server names in DNS.
func (n *network) name(t *trial, host string) {
	t.name, t.dnsaddr = host+"."+n.plan.Zone, "_dnsaddr."+host+"."+n.plan.Zone
	n.zone.addA(host, t.server.addr)
	n.zone.addAAAA(host, t.server6.addr)
	n.zone.addDNSAddr(host, fmt.Sprintf("/ip4/%s/tcp/4001", t.server.addr))
}

// settleServers gives the core the addresses of the trial's servers.
func (n *network) settleServers(t *trial) error {
	return n.core.edit(func(h *netlink.Handle) error {
		var errs []error
		for _, s := range append([]place{t.stranger, t.server6}, t.servers...) {
			if s.addr.IsValid() {
				errs = append(errs, addAddr(h, "lo", netip.PrefixFrom(s.addr, s.addr.BitLen())))
			}
		}
		hole := &netlink.Route{Dst: ipNet(netip.PrefixFrom(t.nobody, 32)), Type: unix.RTN_BLACKHOLE}
		if err := h.RouteAdd(hole); err != nil {
			errs = append(errs, fmt.Errorf("route %s nowhere: %w", t.nobody, err))
		}
		return errors.Join(errs...)
	})
}

// The last bytes of a trial's addresses on the internet: 1 to provingServers are
// its servers'. So many that few ports, drawn for each, are never all the same.
const (
	provingServers = 5
	strangers      = 50
	nobodys        = 99
)

// provingServer is the nth server of the i-th trial, in a part of the internet
// where nothing else is.
func provingServer(i int, nth byte) netip.Addr {
	return netip.AddrFrom4([4]byte{23, byte(i), byte(i >> 8), nth})
}

// claim is a rule or a service, as far as it is to be proven.
type claim struct {
	name, does string
	first      bool
	link       bool
	proof      proof
}

// claims are what a profile says of itself, in the order of proof.
func (p Profile) claims() []claim {
	var list []claim
	for _, r := range p.rules {
		if r.proof == nil && r.stops != nil {
			r.proof = func(t *trial) error { return t.onlyDrops(r.stops) }
		}
		list = append(list, claim{r.name, r.does, r.first, r.link, r.proof})
	}
	for _, s := range p.services {
		list = append(list, claim{s.name, s.does, false, false, s.proof})
	}
	slices.SortStableFunc(list, func(a, b claim) int {
		switch {
		case a.first && !b.first:
			return -1
		case b.first && !a.first:
			return 1
		}
		return 0
	})
	return append(list, p.waysClaim())
}

// proveAll proves what the profile says. Of a mutant only that counts which it
// says and does not do any more.
func (t *trial) proveAll() []Proof {
	var found []Proof
	for _, c := range t.profile.claims() {
		lacks := t.profile.lacks
		if lacks != "" && c.name != lacks && !c.first {
			continue
		}
		if p := t.prove(c); lacks == "" || c.name == lacks {
			found = append(found, p)
		}
	}
	return found
}

func (t *trial) prove(c claim) Proof {
	ctx, cancel := context.WithTimeout(context.Background(), proofTimeout)
	defer cancel()
	t.ctx = ctx
	defer t.close()
	if t.wire != nil {
		t.wire.smooth(!c.link)
	}
	t.seen = nil
	start := time.Now()
	err := errors.New("it has no proof")
	if c.proof != nil {
		err = c.proof(t)
	}
	p := Proof{Profile: t.profile.Name, Name: c.name, Does: c.does, Saw: strings.Join(t.seen, "; "), Took: time.Since(start)}
	if errors.Is(err, errHidden) {
		p.Hidden = err.Error()
	} else if err != nil {
		p.Err = cmp.Or(strings.ReplaceAll(err.Error(), "\n", "; "), "it failed without a word")
	}
	return p
}
