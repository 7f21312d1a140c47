package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-reuseport"
)

// connectTimeout is how long we wait for an address: a SYN is sent four times
// in it (after 1, 3 and 7 s), and what has not answered then is not there.
const connectTimeout = 10 * time.Second

// directly is the way without a proxy.
func (f *Finder) directly(target string) attempt {
	return attempt{dial: func(ctx context.Context) (net.Conn, string, error) {
		conn, err := f.tcp(ctx, target)
		if err != nil {
			return nil, "", fmt.Errorf("directly: %w", err)
		}
		return conn, "", nil
	}}
}

// tcp connects to host:port; the addresses of a name race.
func (f *Finder) tcp(ctx context.Context, target string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	addrs, err := f.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var attempts []attempt
	for _, a := range alternating(addrs) {
		attempts = append(attempts, attempt{dial: func(ctx context.Context) (net.Conn, string, error) {
			conn, err := f.socket(ctx, net.JoinHostPort(a.String(), port))
			return conn, "", err
		}})
	}
	conn, _, errs := race(ctx, attempts)
	if conn == nil {
		return nil, several(errs)
	}
	return conn, nil
}

// socket connects to one address.
func (f *Finder) socket(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if f.connect != nil {
		return f.connect(ctx, addr)
	}
	if from, _ := ctx.Value(fromKey{}).(int); from != 0 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: from}, Control: func(network, address string, raw syscall.RawConn) error {
			return errors.Join(reuseport.Control(network, address, raw), f.control(network, address, raw))
		}}
		conn, err := d.DialContext(ctx, "tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return conn, err
		}
	}
	d := net.Dialer{Control: f.control}
	return d.DialContext(ctx, "tcp", addr)
}

// control prepares a socket before it connects.
func (f *Finder) control(_, _ string, raw syscall.RawConn) error {
	if f.Narrow == nil || !f.Narrow() {
		return nil
	}
	var err error
	if ctlErr := raw.Control(func(fd uintptr) { err = setSegment(fd, narrowSegment) }); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		f.warn("segments cannot be made smaller", "err", err.Error())
	}
	return nil
}

// narrowSegment is a TCP segment, in bytes, that fits a path of 1280 bytes (the
// least that IPv6 promises) with the headers of IPv6 and TCP: 1280 - 40 - 20,
// and 20 to spare for a tunnel's.
const narrowSegment = 1200

// lookup resolves a name; an address is its own.
func (f *Finder) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	resolve := f.Lookup
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	addrs, err := resolve(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, err
}

// alternating takes the two families in turn, beginning with the first one's:
// one of them may be broken as a whole.
func alternating(addrs []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		i := 0
		if a.Is4() != addrs[0].Unmap().Is4() {
			i = 1
		}
		families[i] = append(families[i], a)
	}
	var out []netip.Addr
	for i := range max(len(families[0]), len(families[1])) {
		for _, f := range families {
			if i < len(f) {
				out = append(out, f[i])
			}
		}
	}
	return out
}

// several are failures of one kind, in one line.
type several []error

func (e several) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e several) Unwrap() []error { return e }
