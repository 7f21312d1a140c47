//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proof shows with plain sockets that a rule or a service does what it says:
// nil when that was seen. It fails behind a network that lacks the rule.
type proof func(*trial) error

// trial is a network under test, and the sockets to try it with. They are closed
// when the proof returns, and the proofs of one network run one after another.
//
//	host ── router, with the profile ══ core ── server, second: public addresses
//	                                            that no other trial uses
type trial struct {
	ctx     context.Context // ends when a proof has taken too long
	profile Profile

	host     place   // behind the network; hosts[0]
	hosts    []place // all that the lab has there
	router   place   // its address in the network; without one (open) it is the host
	egress   netip.Addr
	server   place // on the internet, any port of it; servers[0]
	second   place // another one; servers[1]
	servers  []place
	stranger place      // a server that the host sends nothing to
	outer    place      // the router's next hop outside if it is its provider's, or else stranger
	front    netip.Addr // the router's address on that side
	nobody   netip.Addr // a public address that swallows all that is sent to it
	host6    place      // the same over IPv6; invalid addresses where there is none
	router6  place
	server6  place

	name      string // of server, in the internet's DNS
	dnsaddr   string // a name below which DNS has server's multiaddr: _dnsaddr.<dnsaddr> TXT
	wire      *wire  // outside the router; nil without one
	equipment equipment
	pki       authorities

	// reboot has the router forget all flows, and its firewall start anew.
	reboot func() error

	ports uint16 // handed out

	mu     sync.Mutex // guards the fields below
	opened []io.Closer
	seen   []string
}

// place is where a socket is opened: a namespace, and the address it has there.
type place struct {
	ns   netNS
	addr netip.Addr
}

func (p place) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.addr, port) }

// errHidden tells that other rules of a composed profile leave nothing to be seen
// of one.
var errHidden = errors.New("other rules leave nothing to be seen of it")

const (
	// silence is how long nothing has to arrive for it to have been dropped: many
	// round trips of the lab in which profiles prove themselves.
	silence = 400 * time.Millisecond
	// answerWait is for what has to come, on a machine that is busy with other labs:
	// a handshake whose first packet got lost, and a second one.
	answerWait = 5 * time.Second
	// provingTimer is what is left of a longer timer in a lab that proves its
	// profiles: the same rule in seconds. Conntrack counts in whole ones.
	provingTimer = 3 * time.Second
)

// timer is how long the network under test lets what a profile's rule calls d.
func (t *trial) timer(d time.Duration) time.Duration { return min(d, provingTimer) }

// saw notes an observation for the report, as a clause.
func (t *trial) saw(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, fmt.Sprintf(format, args...))
}

func (t *trial) keep(c io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, c)
}

// close lets go of what a proof has opened.
func (t *trial) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.opened {
		_ = c.Close() // a proof may have done so
	}
	t.opened = nil
}

// pause waits, which proofs of timers have to.
func (t *trial) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// end is a socket of a proof: a TCP connection, or a UDP socket.
type end struct {
	name   string
	stream net.Conn
	packet *net.UDPConn
	peer   netip.AddrPort // who is at the other end, as this one sees it; a UDP socket writes there
}

// flow is what two ends say to each other.
type flow struct{ near, far *end }

// network is tcp or udp.
func (f flow) network() string {
	if f.near.packet != nil {
		return "udp"
	}
	return "tcp"
}

// option sets something on a socket before it is connected or bound.
type option func(fd int) error

// maxSegment makes TCP segments of at most so many bytes.
func maxSegment(bytes int) option {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, bytes) }
}

// reusedPort has a port be free as soon as its connection has been closed.
func reusedPort(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

// sharedPort lets several connections leave from one port, and a listener have it.
func sharedPort(fd int) error {
	return errors.Join(reusedPort(fd), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

func control(options []option) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, o(int(fd)))
			}
		}), err)
	}
}

// listen opens a TCP listener. Its connections send nothing of their own accord.
func (t *trial) listen(at place, port uint16, options ...option) (*net.TCPListener, error) {
	var l net.Listener
	err := at.ns.do(func() (err error) {
		c := net.ListenConfig{KeepAlive: -1, Control: control(options)}
		c.SetMultipathTCP(false)
		l, err = c.Listen(t.ctx, "tcp", at.at(port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	t.keep(l)
	return l.(*net.TCPListener), nil
}

// accept waits for a connection for so long.
func (t *trial) accept(l *net.TCPListener, wait time.Duration) (*end, error) {
	if err := l.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	t.keep(c)
	return &end{name: "server", stream: c, peer: c.RemoteAddr().(*net.TCPAddr).AddrPort()}, nil
}

// dial connects over TCP from a port of a place, 0 for any. The error is the
// system's own, such as ECONNREFUSED; what met silence for so long has timed out.
func (t *trial) dial(from place, port uint16, to netip.AddrPort, wait time.Duration, options ...option) (*end, error) {
	if port != 0 {
		options = append(options, reusedPort)
	}
	return t.dialWith(net.Dialer{Timeout: wait, LocalAddr: net.TCPAddrFromAddrPort(from.at(port))}, from, "tcp", to, options)
}

// dialUDP opens a UDP socket to one address, which hears of ICMP errors.
func (t *trial) dialUDP(from place, to netip.AddrPort, options ...option) (*end, error) {
	return t.dialWith(net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from.at(0))}, from, "udp", to, options)
}

func (t *trial) dialWith(d net.Dialer, from place, network string, to netip.AddrPort, options []option) (*end, error) {
	d.KeepAlive, d.Control = -1, control(options)
	d.SetMultipathTCP(false)
	to = toward(from.addr, to)
	var c net.Conn
	err := from.ns.do(func() (err error) {
		c, err = d.DialContext(t.ctx, network, to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	t.keep(c)
	return &end{name: "host", stream: c, peer: to}, nil
}

// toward is to as somebody at addr reaches it, who may have IPv6 only.
func toward(addr netip.Addr, to netip.AddrPort) netip.AddrPort {
	if addr.Is6() && to.Addr().Is4() {
		return netip.AddrPortFrom(in6(to.Addr()), to.Port())
	}
	return to
}

// packets opens a UDP socket, which writes to peer.
func (t *trial) packets(at place, port uint16, peer netip.AddrPort, options ...option) (*end, error) {
	network := "udp4" // "udp" makes a socket of both families of 0.0.0.0
	if at.addr.Is6() {
		network = "udp6"
	}
	var c net.PacketConn
	err := at.ns.do(func() (err error) {
		l := net.ListenConfig{Control: control(options)}
		c, err = l.ListenPacket(t.ctx, network, at.at(port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	t.keep(c)
	name := "host"
	if at.ns != t.host.ns {
		name = "server"
	}
	return &end{name: name, packet: c.(*net.UDPConn), peer: peer}, nil
}

// stream opens a TCP flow from the host to a port of the server.
func (t *trial) stream(port uint16, options ...option) (flow, error) {
	return t.streamFrom(t.host, 0, t.server, port, options...)
}

// streamFrom opens a TCP flow from a port of a place, 0 for any, to one of a server.
func (t *trial) streamFrom(from place, fromPort uint16, to place, port uint16, options ...option) (flow, error) {
	l, err := t.listen(to, port)
	if err != nil {
		return flow{}, err
	}
	defer l.Close()
	near, err := t.dial(from, fromPort, l.Addr().(*net.TCPAddr).AddrPort(), answerWait, options...)
	if err != nil {
		return flow{}, err
	}
	far, err := t.accept(l, answerWait)
	if err != nil {
		return flow{}, fmt.Errorf("TCP to port %d seems to connect, and does not arrive: %w", port, err)
	}
	return flow{near, far}, nil
}

// datagrams opens a UDP flow from the host to a port of the server: it says
// hello, and the server takes note of the address that this came from.
func (t *trial) datagrams(port uint16, options ...option) (flow, error) {
	return t.datagramsFrom(t.host, 0, t.server, port, options...)
}

func (t *trial) datagramsFrom(from place, fromPort uint16, to place, port uint16, options ...option) (flow, error) {
	far, err := t.packets(to, port, netip.AddrPort{})
	if err != nil {
		return flow{}, err
	}
	near, err := t.packets(from, fromPort, far.packet.LocalAddr().(*net.UDPAddr).AddrPort(), options...)
	if err != nil {
		return flow{}, err
	}
	f := flow{near, far}
	return f, f.hello()
}

// hello sends from the near end, and has the far end answer to where it came from.
func (f flow) hello() error {
	if err := f.near.write("hello"); err != nil {
		return err
	}
	text, from, err := f.far.read(answerWait)
	if err != nil || text != "hello" {
		return fmt.Errorf("UDP to %s: hello does not arrive: %q %w", f.near.peer, text, err)
	}
	f.far.peer = from
	return nil
}

// local is the socket's own address.
func (e *end) local() netip.AddrPort {
	if e.packet != nil {
		return e.packet.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return netip.MustParseAddrPort(e.stream.LocalAddr().String())
}

func (e *end) write(text string) (err error) {
	if e.packet != nil {
		own := e.packet.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		_, err = e.packet.WriteToUDPAddrPort([]byte(text), toward(own, e.peer))
		return err
	}
	// What vanishes on its way fills the sender's buffer at some point.
	if err = e.stream.SetWriteDeadline(time.Now().Add(answerWait)); err == nil {
		_, err = io.WriteString(e.stream, text)
	}
	return err
}

// read waits for the next packet, or for what a stream has next; from is who
// sent the packet.
func (e *end) read(wait time.Duration) (text string, from netip.AddrPort, err error) {
	buf := make([]byte, 64<<10)
	until := time.Now().Add(wait)
	n := 0
	if e.packet != nil {
		if err = e.packet.SetReadDeadline(until); err == nil {
			n, from, err = e.packet.ReadFromUDPAddrPort(buf)
		}
		return string(buf[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	if err = e.stream.SetReadDeadline(until); err == nil {
		n, err = e.stream.Read(buf)
	}
	return string(buf[:n]), from, err
}

// receive reads a stream until what it has said ends in what is awaited, and
// returns all of it.
func (e *end) receive(awaited string) (string, error) {
	all := ""
	for !strings.HasSuffix(all, awaited) {
		text, _, err := e.read(answerWait)
		all += text
		if err != nil {
			return all, fmt.Errorf("the %s waits for %.60q and has %.200q: %w", e.name, awaited, all, err)
		}
	}
	return all, nil
}

// says writes text, and returns an error unless it, and nothing else, arrives.
func (e *end) says(to *end, text string) error {
	got, _, err := e.pass(to, text, answerWait)
	switch {
	case err != nil:
		return fmt.Errorf("what the %s says is lost: %.40q: %w", e.name, text, err)
	case got != text:
		return fmt.Errorf("%.40q arrives in place of %.40q", got, text)
	}
	return nil
}

// lost writes text, and returns an error unless nothing at all comes of it.
func (e *end) lost(to *end, text string) error {
	got, _, err := e.pass(to, text, silence)
	switch {
	case timedOut(err):
		return nil
	case err != nil:
		return fmt.Errorf("what the %s says is not lost silently: %.40q: %w", e.name, text, err)
	}
	return fmt.Errorf("what the %s says is not lost: %.40q arrives", e.name, got)
}

// reply writes text, and returns what comes back next.
func (e *end) reply(text string, wait time.Duration) (string, error) {
	if err := e.write(text); err != nil {
		return "", err
	}
	got, _, err := e.read(wait)
	return got, err
}

func (e *end) pass(to *end, text string, wait time.Duration) (string, netip.AddrPort, error) {
	if err := e.write(text); err != nil {
		return "", netip.AddrPort{}, err
	}
	var all string
	for {
		got, from, err := to.read(wait)
		all += got
		if err != nil || to.packet != nil || len(all) >= len(text) {
			return all, from, err
		}
	}
}

// alive is nil when both directions carry.
func (f flow) alive() error {
	return errors.Join(f.near.says(f.far, "a question"), f.far.says(f.near, "an answer"))
}

// dead is nil when neither direction does, and neither end is told.
func (f flow) dead() error {
	return errors.Join(f.far.lost(f.near, "an answer"), f.near.lost(f.far, "a question"))
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }

func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
