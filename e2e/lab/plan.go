//go:build linux

package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

const (
	defaultZone = "mesh.wce2e.net"
	bystander   = "bystander" // with a number behind it, a bystander's name
	maxLinks    = 1200        // networks, hosts and bystanders: far more than a machine stands
	maxInside   = 250         // hosts of one network: its range is a /24
)

// firstOctets are where public addresses come from: ordinary unicast space that
// go-libp2p's manet.IsPublicAddr accepts. Neighbours in the list are different
// /8s, so that two sites are told apart at a glance and by any subnet limit.
var firstOctets = []byte{45, 11, 62, 80, 91, 109, 77, 2}

// resolver answers hosts that have no router of their own; it stands on the core.
var resolver = netip.AddrFrom4([4]byte{9, 53, 53, 53})

// plan is a lab worked out to the last address. It is what lab init is told.
type plan struct {
	Dir        string
	Latency    time.Duration
	IPv6       bool // some network has it, so the core and public hosts have it as well
	Zone       string
	Binary     string
	Share      map[string]string // as in Config
	Authorized string            // the client's public key, as a line of authorized_keys
	Proving    bool              // hosts are namespaces without a process, and timers are short
	Sites      []site
	Machines   []machine
}

// access is a link to the core, a /30, and a /64 where it carries IPv6.
type access struct {
	Addr, Core   netip.Addr
	Addr6, Core6 netip.Addr // invalid without IPv6
	Link         inventory.Link
}

// site is a network behind a router.
type site struct {
	Name    string
	Profile string
	Access  access       // with addresses of the internet
	Carrier access       // between the network's router and its provider's, which then has Access; invalid without one
	LAN     netip.Prefix // the router's own address in it; invalid without IPv4
	LAN6    netip.Prefix // the same for IPv6; invalid without
}

// router is the router's own address in its network.
func (s site) router() netip.Addr {
	if s.LAN.IsValid() {
		return s.LAN.Addr()
	}
	return s.LAN6.Addr()
}

// machine is a host. One without a site has an access link of its own.
type machine struct {
	Name      string
	Network   string
	Profile   string
	Site      int // index into plan.Sites; -1: none
	Access    access
	Addr      netip.Prefix // of eth0; invalid without IPv4
	Gateway   netip.Addr
	Addr6     netip.Prefix // of eth0; invalid without IPv6
	Gateway6  netip.Addr
	Resolver  netip.Addr
	Bystander bool
	HostKey   string // private, PEM; empty for a bystander
}

// Supported is nil where labs can be at all: on Linux.
func Supported() error { return nil }

// Check reports every mistake in l that only this package can see, such as an
// unknown profile, as inventory.Problems. It touches nothing.
func Check(l *inventory.Lab) error {
	var ps inventory.Problems
	bad := func(line int, path, hint, format string, args ...any) {
		p := l.Problem(line, path, fmt.Sprintf(format, args...))
		p.Hint = hint
		ps = append(ps, p)
	}
	if l.Latency < 0 || l.Latency > inventory.MaxLatency {
		bad(l.Line, "lab.latency", "", "%s is not between 0s and %s", l.Latency, inventory.MaxLatency)
	}
	if why := badZone(cmp.Or(l.Zone, defaultZone)); why != "" {
		bad(l.Line, "lab.zone", "", "%s", why)
	}
	known := map[string]bool{}
	for _, n := range l.Networks {
		known[n.Name] = true
		if n.Link.Delay > inventory.MaxLatency {
			bad(n.Line, "lab.networks."+n.Name+".link.delay", "", "%s is more than %s", n.Link.Delay, inventory.MaxLatency)
		}
		if _, err := profileNamed(n.Profile); err != nil {
			bad(n.Line, "lab.networks."+n.Name+".profile", "there are "+strings.Join(profileNames(), ", ")+", and a + b is both", "%s", err)
		}
	}
	seen, inside := map[string]bool{}, map[string]int{}
	for _, h := range l.Hosts {
		inside[h.Network]++
		path := "lab.hosts." + h.Name
		switch {
		case !hostName.MatchString(h.Name):
			bad(h.Line, path, "", "%q cannot be a host name: letters, digits and inner - only, at most 32", h.Name)
		case strings.HasPrefix(h.Name, bystander):
			bad(h.Line, path, "", "names that begin with %s are the bystanders' own", bystander)
		case seen[h.Name]:
			bad(h.Line, path, "", "a second host of this name")
		case !known[h.Network]:
			bad(h.Line, path, "", "there is no network %q", h.Network)
		}
		seen[h.Name] = true
	}
	if links := len(l.Networks) + len(l.Hosts) + l.Bystanders; l.Bystanders < 0 || links > maxLinks {
		bad(l.Line, "lab", "", "%d networks, hosts and bystanders: the lab has addresses for %d", links, maxLinks)
	}
	for _, n := range l.Networks {
		if inside[n.Name] > maxInside && n.Profile != open {
			bad(n.Line, "lab.networks."+n.Name, "", "%d hosts: a network has addresses for %d", inside[n.Name], maxInside)
		}
	}
	return ps.Err()
}

var (
	hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?$`)
	zoneName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)
)

// privateZones are names that libp2p takes for private, and so does not dial.
var privateZones = []string{"test", "local", "home.arpa", "localhost", "invalid"}

func badZone(zone string) string {
	if !zoneName.MatchString(zone) {
		return fmt.Sprintf("%q is no DNS name of at least two labels in lower case", zone)
	}
	for _, p := range privateZones {
		if strings.HasSuffix(zone, "."+p) {
			return fmt.Sprintf("names below .%s are private to libp2p", p)
		}
	}
	return ""
}

// newPlan gives every link and host its addresses. l has passed Check.
func newPlan(l *inventory.Lab) plan {
	p := plan{Latency: l.Latency, Zone: cmp.Or(l.Zone, defaultZone)}
	siteOf := map[string]int{}
	networks := map[string]inventory.LabNetwork{}
	for _, n := range l.Networks {
		prof, _ := profileNamed(n.Profile)
		p.IPv6 = p.IPv6 || prof.ipv6
	}
	for _, n := range l.Networks {
		networks[n.Name] = n
		siteOf[n.Name] = -1
		prof, _ := profileNamed(n.Profile)
		if !prof.public {
			siteOf[n.Name] = len(p.Sites)
			p.Sites = append(p.Sites, newSite(n, len(p.Sites), prof, p.IPv6))
		}
	}
	links := len(p.Sites) // theirs are the first
	link := func() access { links++; return nthAccess(links-1, p.IPv6) }
	inside := make([]int, len(p.Sites))
	for _, h := range l.Hosts {
		m := machine{Name: h.Name, Network: h.Network, Profile: networks[h.Network].Profile, Site: siteOf[h.Network]}
		if m.Site < 0 {
			m.attach(link())
			m.Access.Link = networks[h.Network].Link
		} else {
			inside[m.Site]++
			m.behind(p.Sites[m.Site], inside[m.Site])
		}
		p.Machines = append(p.Machines, m)
	}
	for i := range l.Bystanders {
		m := machine{Name: fmt.Sprintf("%s%d", bystander, i+1), Site: -1, Profile: open, Bystander: true}
		m.attach(link())
		p.Machines = append(p.Machines, m)
	}
	return p
}

// newSite is the i-th one. Networks of IPv6 only reach the IPv6 internet where there
// is one.
func newSite(n inventory.LabNetwork, i int, prof Profile, internet6 bool) site {
	six := internet6 && prof.needsIPv6()
	s := site{Name: n.Name, Profile: n.Profile, Access: nthAccess(i, six)}
	s.Access.Link = n.Link
	if !prof.nat64 {
		s.LAN = nthLAN(i)
	}
	if prof.needsIPv6() {
		s.LAN6 = nthLAN6(i)
	}
	if prof.draft().carrier {
		s.Carrier = nthCarrier(i, six)
	}
	return s
}

// nthAccess is the i-th /30 of the core: x.y.0.2 outside, x.y.0.1 on the core.
// Of the /64 for IPv6, the last digits are the same.
func nthAccess(i int, ipv6 bool) access {
	x, y := firstOctets[i%len(firstOctets)], byte(10+i/len(firstOctets))
	a := access{Addr: netip.AddrFrom4([4]byte{x, y, 0, 2}), Core: netip.AddrFrom4([4]byte{x, y, 0, 1})}
	if ipv6 {
		a.Addr6, a.Core6 = inside6(0x10, i, 2), inside6(0x10, i, 1)
	}
	return a
}

// inside6 is an address in the lab's part of 2a00::/16, of which libp2p takes all
// for public: 2a00:<kind>:<i>::<host>.
func inside6(kind byte, i int, host byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x2a, 3: kind, 4: byte(i >> 8), 5: byte(i), 15: host})
}

// nthLAN is the router's address in the i-th private network: from 192.168.10.0/24
// on, as homes have it, and from 10.1.0.0/24 on when that range is used up.
func nthLAN(i int) netip.Prefix {
	const small = 240
	lan := [4]byte{192, 168, byte(10 + i), 1}
	if i >= small {
		lan = [4]byte{10, byte(1 + (i-small)>>8), byte(i - small), 1}
	}
	return netip.PrefixFrom(netip.AddrFrom4(lan), 24)
}

func nthLAN6(i int) netip.Prefix { return netip.PrefixFrom(inside6(0x20, i, 1), bits6) }

const (
	accessBits = 30
	bits6      = 64 // of every IPv6 link
)

func (m *machine) attach(a access) {
	m.Access = a
	m.Addr = netip.PrefixFrom(a.Addr, accessBits)
	m.Gateway, m.Resolver = a.Core, resolver
	if a.Addr6.IsValid() {
		m.Addr6, m.Gateway6 = netip.PrefixFrom(a.Addr6, bits6), a.Core6
	}
}

func (m *machine) behind(s site, nth int) {
	m.Resolver = s.router()
	if s.LAN.IsValid() {
		lan := s.LAN.Addr().As4()
		lan[3] += byte(nth)
		m.Addr, m.Gateway = netip.PrefixFrom(netip.AddrFrom4(lan), s.LAN.Bits()), s.LAN.Addr()
	}
	if s.LAN6.IsValid() {
		lan6 := s.LAN6.Addr().As16()
		lan6[15] += byte(nth)
		m.Addr6, m.Gateway6 = netip.PrefixFrom(netip.AddrFrom16(lan6), bits6), s.LAN6.Addr()
	}
}

// own is the address by which m knows itself: that of IPv4, if it has one.
func (m machine) own() netip.Addr {
	if m.Addr.IsValid() {
		return m.Addr.Addr()
	}
	return m.Addr6.Addr()
}

// hosts tells the caller what was built.
func (p plan) hosts() []Host {
	out := make([]Host, len(p.Machines))
	for i, m := range p.Machines {
		out[i] = Host{Name: m.Name, Network: m.Network, Profile: m.Profile, Addr: m.own(), Addr6: m.Addr6.Addr(), Egress: p.egress(m)}
	}
	return out
}

func (p plan) egress(m machine) netip.Addr {
	if m.Site < 0 {
		return m.own()
	}
	s := p.Sites[m.Site]
	if prof, _ := profileNamed(s.Profile); prof.draft().addressEach {
		return sameHost(s.Access.block(), m.Addr.Addr())
	}
	return s.Access.Addr
}

// routers are the names of the networks that have one.
func (p plan) routers() []string {
	names := make([]string, len(p.Sites))
	for i, s := range p.Sites {
		names[i] = s.Name
	}
	return names
}

// reachable lists the machines that the suite logs in to.
func (p plan) reachable() []machine {
	return slices.DeleteFunc(slices.Clone(p.Machines), func(m machine) bool { return m.Bystander })
}
