package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// defaultPort is the mesh's port for TCP and UDP.
const defaultPort = 4001

// ListenError tells which address a node could not listen on. Where Err is
// EACCES, the port is a privileged one (below net.ipv4.ip_unprivileged_port_start).
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err) }
func (e *ListenError) Unwrap() error { return e.Err }

// webAddrs are the ways into a relay that look like web traffic, at one of the
// machine's families of addresses.
func webAddrs(host string) []string {
	return []string{host + "/tcp/443/tls/ws"}
}

// httpAddrs are those without TLS.
func httpAddrs(host string) []string { return []string{host + "/tcp/80/ws"} }

// listenAddrs are the addresses to listen on: the configured ones, or the
// defaults of the role. A donor's default port gives way when it is taken, with
// a word in the log; all else is taken at its word.
func listenAddrs(cfg Config, log *slog.Logger) ([]ma.Multiaddr, error) {
	if len(cfg.Listen) > 0 {
		return parseAddrs("listen address", cfg.Listen)
	}
	hosts := []string{"/ip4/0.0.0.0"}
	if kernelHasIPv6() {
		hosts = append(hosts, "/ip6/::")
	}
	var addrs []string
	for _, h := range hosts {
		tcp, udp := defaultPort, defaultPort
		if !cfg.Relay {
			tcp = portOrAny("tcp", h, log)
			udp = portOrAny("udp", h, log)
		}
		addrs = append(addrs, fmt.Sprintf("%s/tcp/%d", h, tcp), fmt.Sprintf("%s/udp/%d/quic-v1", h, udp))
		if cfg.Relay {
			addrs = append(addrs, fmt.Sprintf("%s/udp/%d/quic-v1/webtransport", h, udp))
			addrs = append(addrs, webAddrs(h)...)
		}
		if cfg.HTTP {
			addrs = append(addrs, httpAddrs(h)...)
		}
	}
	all, err := parseAddrs("listen address", addrs)
	return slices.DeleteFunc(all, func(a ma.Multiaddr) bool { return !slices.Contains(orAll(cfg.Transports), transportWord(a)) }), err
}

func parseAddrs(what string, in []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	var errs []error
	for _, s := range in {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", what, s, err))
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

// portOrAny is the default port, or 0 (any) when somebody has it.
func portOrAny(transport, host string, log *slog.Logger) int {
	addr := fmt.Sprintf("%s/%s/%d", host, transport, defaultPort)
	err := vacant(ma.StringCast(addr))
	if err == nil {
		return defaultPort
	}
	log.Warn("the default port is taken, listening on any other", "addr", addr, "err", err)
	return 0
}

// listen listens on every address or fails: the library itself is content with
// one that works. Ordinary HTTP requests are served wherever WebSocket is: who
// dials them finds them by that.
func listen(n network.Network, addrs []ma.Multiaddr) error {
	opened, along := map[string]bool{}, map[string]bool{}
	for _, a := range addrs {
		if along[a.String()] {
			continue
		}
		var err error
		other := sharer(a)
		shares := other != nil && opened[other.String()]
		if !shares {
			err = vacant(a)
		}
		if err == nil {
			err = n.Listen(a)
		}
		opened[a.String()] = true
		if err == nil && transportWord(a) == "web" && !shares && spoken(n, other) {
			err = n.Listen(other)
			along[other.String()] = true
		}
		if err != nil {
			return &ListenError{Addr: a.String(), Err: err}
		}
	}
	return nil
}

// sharers are the ends of addresses that can share a port: behind the same TLS,
// or none, WebSocket and ordinary requests are both HTTP; WebTransport is QUIC.
var sharers = [][2]string{{"/quic-v1", "/quic-v1/webtransport"}, {"/ws", "/http"}}

// sharer is what can be served on the port of an address as well; nil where
// there is nothing, or the port is not known yet.
func sharer(a ma.Multiaddr) ma.Multiaddr {
	if port, err := a.ValueForProtocol(ma.P_UDP); err == nil && port == "0" {
		return nil // it would be another one
	}
	text := strings.Replace(a.String()+"/", "/wss/", "/tls/ws/", 1)
	text = strings.TrimSuffix(text, "/")
	for _, pair := range sharers {
		for i, end := range pair {
			if rest, is := strings.CutSuffix(text, end); is {
				return ma.StringCast(rest + pair[1-i])
			}
		}
	}
	return nil
}

// spoken tells whether the node has a transport for an address.
func spoken(n network.Network, a ma.Multiaddr) bool {
	t, ok := n.(interface {
		TransportForListening(ma.Multiaddr) transport.Transport
	})
	return ok && t.TransportForListening(a) != nil
}

// vacant fails when the port of addr is taken. The library listens with
// SO_REUSEPORT and would share it, unnoticed, with another node of the same
// user, connections going to either at random.
func vacant(addr ma.Multiaddr) error {
	bare, _ := ma.SplitFunc(addr, func(c ma.Component) bool {
		code := c.Protocol().Code
		return code != ma.P_IP4 && code != ma.P_IP6 && code != ma.P_TCP && code != ma.P_UDP
	})
	transport, hostport, err := manet.DialArgs(bare)
	if err != nil {
		return nil // no IP and port of ours: the library judges
	}
	if _, port, err := net.SplitHostPort(hostport); err != nil || port == "0" {
		return nil
	}
	var probe interface{ Close() error }
	switch transport {
	case "udp4", "udp6":
		probe, err = net.ListenPacket(transport, hostport)
	default:
		probe, err = net.Listen(transport, hostport)
	}
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return errno
		}
		return err
	}
	return probe.Close()
}

// kernelHasIPv6 tells whether IPv6 can be listened on. Addresses do not matter:
// after a boot, they come when a router has told its prefix.
func kernelHasIPv6() bool {
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
