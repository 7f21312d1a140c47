//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// A service is what a network runs for its hosts, or against them, beyond the
// rules of its firewall: a proxy, TLS inspection, a portal, a resolver of its
// own. Services run in lab init, with all of their sockets in the router's
// namespace: what a proxy dials leaves by the router's own address.
type service struct {
	name  string   // as a rule's
	does  string   // what the network has by it, as a clause
	ports []uint16 // of the router, that it listens on
	names bool     // it answers for every name, in place of the internet's own
	// start runs it on a network's router, and returns. nil: nothing runs.
	start func(*router) error
	// equip gives the network's hosts what its administrators would. nil: nothing.
	equip func(*equipment, authorities)
	proof proof
}

// equipment is what administrators put on a machine.
type equipment struct {
	Env    []string          // of every login, NAME=value
	Files  map[string]string // in the home folder, for its owner only
	Search string            // domain in which short names are looked up
	Trust  string            // PEM: authorities beside those that the machine itself trusts
}

// router is a network's router, as its services see it.
type router struct {
	index int   // of its site
	self  netNS // lab init's own
	ns    netNS
	addr  netip.Addr // in its network
	pki   authorities
	world *zone    // the internet's names
	local *zone    // names of this network
	names answers  // what its resolver says; services put theirs before it
	ports *portMap // that it has lent to hosts
	fail  func(error)
}

// localZone is where a network's own names are. It exists in no public DNS.
const localZone = "lan."

// startServices starts what the internet itself has, then what the networks
// have, and the resolver of each network last, since services change its answers.
func (n *network) startServices(world *zone, fail func(error)) error {
	if err := n.startPublic(world, fail); err != nil {
		return err
	}
	for i, s := range n.plan.Sites {
		local := &zone{origin: localZone, records: map[string][]dns.RR{}}
		r := &router{index: i, self: n.self, ns: n.sites[i], addr: s.router(), pki: n.pki, world: world, local: local,
			ports: &portMap{ns: n.sites[i]}, fail: fail}
		r.names = local.before(world.answer)
		if err := r.start(s.Profile); err != nil {
			return fmt.Errorf("network %s: %w", s.Name, err)
		}
	}
	return nil
}

func (r *router) start(profile string) error {
	prof, _ := profileNamed(profile)
	for _, s := range prof.services {
		if s.start == nil {
			continue
		}
		if err := s.start(r); err != nil {
			return err
		}
	}
	if r.names == nil { // a service is the whole resolver
		return nil
	}
	return r.names.serve(r.ns, r.addr, r.fail)
}

// equipment is what machine m is given.
func (n *network) equipment(m machine) (equipment, error) {
	e := equipment{Trust: n.pki.web.pem(), Files: map[string]string{}}
	prof, _ := profileNamed(m.Profile)
	for _, s := range prof.services {
		if s.equip != nil {
			s.equip(&e, n.pki)
		}
	}
	if m.Site >= 0 || m.Bystander {
		return e, nil
	}
	// As if it had asked a public authority by ACME.
	cert, err := n.pki.web.issue(m.Name+"."+n.plan.Zone, m.own().String())
	if err != nil {
		return e, err
	}
	e.Files[certFile], e.Files[keyFile], err = encode(cert)
	return e, err
}

// Where a host with a public address has its certificate, in the home folder.
const (
	certFile = "tls/cert.pem"
	keyFile  = "tls/key.pem"
)

// serveHTTP answers on a port of the router.
func (r *router) serveHTTP(port uint16, h http.Handler) error {
	return serveHTTP(r.ns, netip.AddrPortFrom(r.addr, port), h, r.fail)
}

func serveHTTP(ns netNS, at netip.AddrPort, h http.Handler, fail func(error)) error {
	l, err := ns.listen(at)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ErrorLog: nobody, ReadHeaderTimeout: clientPatience}
	go func() { fail(fmt.Errorf("serve HTTP on %s: %w", at, s.Serve(l))) }()
	return nil
}

// nobody reads what clients do wrong: they are what is tested, and say so themselves.
var nobody = log.New(io.Discard, "", 0)

// clientPatience is how long a client may take to say what it wants: what
// servers have by default lies between 20 and 60 s.
const clientPatience = 30 * time.Second

// dialTimeout is for what services dial: less than most clients wait for a
// proxy, so that they are told.
const dialTimeout = 10 * time.Second

// dial opens a TCP connection as the router's own. A name is looked up in the
// internet's DNS, which services see whatever their network lets hosts see.
func (r *router) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		ip, ok := r.world.lookup(host)
		if !ok {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		addr = net.JoinHostPort(ip.String(), port)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return r.ns.dial(ctx, network, addr)
}

// dial opens a connection from inside ns. addr is an IP address and a port: Go's
// resolver asks from a goroutine of its own, which is not inside.
func (ns netNS) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, err
	}
	err = ns.do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// outside is the router's own address on the internet at this time.
func (r *router) outside() (addr netip.Addr, err error) {
	err = r.ns.edit(func(h *netlink.Handle) error {
		l, err := h.LinkByName(wan)
		if err != nil {
			return fmt.Errorf("find %s: %w", wan, err)
		}
		addrs, err := h.AddrList(l, netlink.FAMILY_V4)
		if err != nil || len(addrs) == 0 {
			return errors.Join(err, fmt.Errorf("%s has no IPv4 address", wan))
		}
		addr, _ = netip.AddrFromSlice(addrs[0].IP.To4())
		return nil
	})
	return addr, err
}

// listen opens a TCP listener inside ns.
func (ns netNS) listen(at netip.AddrPort) (l net.Listener, err error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // where a flow was redirected from is known for plain TCP only
	err = ns.do(func() (err error) {
		l, err = c.Listen(context.Background(), "tcp", at.String())
		return err
	})
	return l, err
}

// listenUDP opens a UDP socket inside ns.
func (ns netNS) listenUDP(at netip.AddrPort) (c *net.UDPConn, err error) {
	err = ns.do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	return c, err
}

// splice joins two connections until both directions have ended, and closes
// them. fromA is a's stream, of which something may have been read ahead.
func splice(a net.Conn, fromA io.Reader, b net.Conn) {
	done := make(chan struct{})
	go func() {
		pour(b, fromA)
		close(done)
	}()
	pour(a, b)
	<-done
	a.Close()
	b.Close()
}

// pour copies until the end, and hands that on. What cannot be written any more
// ends the other direction as well.
func pour(to net.Conn, from io.Reader) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
	}
}

// timedOut tells whether a dial met silence.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
