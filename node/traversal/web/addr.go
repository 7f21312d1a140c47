package web

import (
	"fmt"
	"net"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
)

// target is a multiaddr of this transport, taken apart.
type target struct {
	tcp    ma.Multiaddr // the beginning, up to the port
	host   string       // IP or name
	port   string
	tls    bool
	sni    string // the name after /tls, if there is one
	tunnel bool   // HTTP requests, and not WebSocket
}

// parse takes the forms in the package comment; /wss is /tls/ws, /https is
// /tls/http, and a name may stand for the IP.
func parse(a ma.Multiaddr) (target, error) {
	if len(a) < 3 {
		return target{}, fmt.Errorf("%s: not an address of web traffic", a)
	}
	to := target{tcp: a[:2:2], host: a[0].Value(), port: a[1].Value()}
	if !isHost(a[0]) || a[1].Code() != ma.P_TCP {
		return target{}, fmt.Errorf("%s: not an address of web traffic", a)
	}
	way := a[2:]
	if way[0].Code() == ma.P_TLS {
		to.tls, way = true, way[1:]
		if len(way) > 0 && way[0].Code() == ma.P_SNI {
			to.sni, way = way[0].Value(), way[1:]
		}
	}
	if len(way) != 1 || !to.setWay(way[0].Code()) {
		return target{}, fmt.Errorf("%s: not an address of web traffic", a)
	}
	return to, nil
}

// Endpoint is an address of this transport, taken apart, for those who go through
// a dial layer by layer.
type Endpoint struct {
	HostPort   string // to connect to
	ServerName string // what the certificate should be for
	TLS        bool
	Tunnel     bool   // ordinary requests, and not WebSocket
	URL        string // ws, wss, http or https, without a path
}

// ParseEndpoint takes an address apart.
func ParseEndpoint(a ma.Multiaddr) (Endpoint, error) {
	to, err := parse(a)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{HostPort: to.hostport(), ServerName: to.server(), TLS: to.tls, Tunnel: to.tunnel, URL: to.url("ws", "wss")}
	if to.tunnel {
		e.URL = to.url("http", "https")
	}
	return e, nil
}

func isHost(c ma.Component) bool {
	switch c.Code() {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return true
	}
	return false
}

// setWay reads the last component. /wss and /https bring their own TLS.
func (to *target) setWay(code int) bool {
	switch code {
	case ma.P_WSS, ma.P_HTTPS:
		if to.tls {
			return false
		}
		to.tls = true
	case ma.P_WS, ma.P_HTTP:
	default:
		return false
	}
	to.tunnel = code == ma.P_HTTP || code == ma.P_HTTPS
	return true
}

// named reports whether the host is a name that would have to be looked up.
func (to target) named() bool { return net.ParseIP(to.host) == nil }

// server is the name that the certificate should have: IPs count as names.
func (to target) server() string {
	if to.sni != "" {
		return to.sni
	}
	return to.host
}

// hostport is where to connect to.
func (to target) hostport() string { return net.JoinHostPort(to.host, to.port) }

// url is the server's, without a path, as a browser would write it: a default
// port is left out.
func (to target) url(plain, secure string) string {
	scheme, standard := plain, "80"
	if to.tls {
		scheme, standard = secure, "443"
	}
	host := net.JoinHostPort(to.server(), to.port)
	if to.port == standard {
		host = strings.TrimSuffix(host, ":"+standard)
	}
	return scheme + "://" + host
}

// way is the last part of the multiaddr: /ws, /tls/ws, /tls/sni/NAME/http.
func (to target) way() ma.Multiaddr {
	s := ""
	if to.tls {
		s = "/tls"
	}
	if to.sni != "" {
		s += "/sni/" + to.sni
	}
	if to.tunnel {
		return ma.StringCast(s + "/http")
	}
	return ma.StringCast(s + "/ws")
}

func (to target) multiaddr() ma.Multiaddr { return to.tcp.Encapsulate(to.way()) }
