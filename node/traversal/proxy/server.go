package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// server is a proxy. However it is printed, its credentials are not.
type server struct {
	scheme  string // http | https | socks5
	address string // host:port
	login   login  // from its URL
	source  string // who named it
	named   bool   // by a person, not by the network
}

func (s server) String() string { return s.scheme + "://" + s.address }

func (s server) host() string {
	host, _, _ := net.SplitHostPort(s.address)
	return host
}

// ports are the schemes that we speak, and where proxies of the kind listen.
var ports = map[string]string{"http": "80", "https": "443", "socks5": "1080"}

// parseServer reads the URL of a proxy as people write them: without a scheme
// it is an HTTP one. The error does not repeat it, since there may be a password in it.
func parseServer(text, source string) (server, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return server{}, errors.New("it is not the URL of a proxy")
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme == "socks5h" || scheme == "socks" {
		scheme = "socks5" // names are always left to the proxy
	}
	port, known := ports[scheme]
	if !known {
		return server{}, fmt.Errorf("there are no %.20q proxies", scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	s := server{scheme: scheme, address: net.JoinHostPort(u.Hostname(), port), source: source, named: true}
	if u.User != nil {
		s.login.user = u.User.Username()
		s.login.password, _ = u.User.Password()
	}
	return s, nil
}
