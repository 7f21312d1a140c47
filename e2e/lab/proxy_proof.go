//go:build linux

package lab

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// The proofs of what offices have.

// connect asks the office's HTTP proxy for a connection to a port of the server.
func (t *trial) connect(to string, headers ...string) (*end, *http.Response, error) {
	e, err := t.dial(t.host, 0, t.router.at(httpPort), answerWait)
	if err != nil {
		return nil, nil, err
	}
	r, _, err := e.fetch(http.MethodConnect, to, to, headers...)
	return e, r, err
}

// tunnels is nil when the proxy connects a host to a port of the server.
func (t *trial) tunnels(host string, number uint16, headers ...string) error {
	l, err := t.listen(t.server, number)
	if err != nil {
		return err
	}
	defer l.Close()
	to := fmt.Sprintf("%s:%d", host, number)
	near, r, err := t.connect(to, headers...)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT %s is answered with %s (%v)", to, statusOf(r), err)
	}
	far, err := t.accept(l, answerWait)
	if err != nil {
		return fmt.Errorf("CONNECT %s: nobody comes: %w", to, err)
	}
	if far.peer.Addr() != t.egress {
		return fmt.Errorf("CONNECT %s: %s comes, and not the router", to, far.peer)
	}
	return flow{near, far}.alive()
}

// refuses is nil when the proxy answers CONNECT with a status.
func (t *trial) refuses(to string, status int, headers ...string) (*http.Response, error) {
	_, r, err := t.connect(to, headers...)
	if err != nil || r.StatusCode != status {
		return nil, fmt.Errorf("CONNECT %s is answered with %s (%v), want %d", to, statusOf(r), err, status)
	}
	return r, nil
}

func statusOf(r *http.Response) string {
	if r == nil {
		return "nothing"
	}
	return r.Status
}

func basic(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (p httpProxy) prove(t *trial) error {
	var headers []string
	ports := []uint16{443, 4001}
	if p.password {
		for _, header := range []string{"X-Nothing: at all", basic(proxyUser, "guess")} {
			r, err := t.refuses(fmt.Sprintf("%s:443", t.server.addr), http.StatusProxyAuthRequired, header)
			if err != nil {
				return err
			}
			if how := r.Header.Get("Proxy-Authenticate"); !strings.HasPrefix(how, "Basic ") {
				return fmt.Errorf("it is not said what to log in with: %q", how)
			}
		}
		t.saw("407 without the password")
		headers = append(headers, basic(proxyUser, proxyPassword))
	}
	if p.ports != nil {
		if _, err := t.refuses(fmt.Sprintf("%s:4001", t.server.addr), http.StatusForbidden, headers...); err != nil {
			return err
		}
		t.saw("403 for port 4001")
		ports = p.ports
	}
	for _, number := range ports {
		if err := errors.Join(t.tunnels(t.server.addr.String(), number, headers...), t.tunnels(t.name, number, headers...)); err != nil {
			return err
		}
	}
	// Proxies do not agree on how to say so: 502 ours, 503 squid, 500 tinyproxy.
	_, r, err := t.connect(fmt.Sprintf("nobody.example.org:%d", ports[0]), headers...)
	if err != nil || r.StatusCode < http.StatusInternalServerError {
		return fmt.Errorf("CONNECT to a name that does not exist is answered with %s (%w)", statusOf(r), err)
	}
	t.saw("CONNECT by address and name to %s, %d for an unknown name", list(ports), r.StatusCode)
	return nil
}

// proveAnnounced is nil when the environment of logins names a proxy that is there.
func proveAnnounced(t *trial, at string, names []string) error {
	for _, name := range names {
		if got := t.equipment.variable(name); got != at {
			return fmt.Errorf("%s is %q in the environment, want %q", name, got, at)
		}
	}
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	addr, err := t.resolve(u.Hostname())
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(addr.String() + ":" + u.Port())
	if err != nil {
		return err
	}
	if _, err := t.dial(t.host, 0, to, answerWait); err != nil {
		return fmt.Errorf("nobody is where the environment says: %w", err)
	}
	t.saw("%s=%s, which is %s and connects", names[0], at, to)
	return nil
}

func proveCredentials(t *trial) error {
	file := strings.TrimPrefix(t.equipment.variable("WCE2E_PROXY_CREDENTIALS"), home+"/")
	user, password, ok := strings.Cut(strings.TrimSpace(t.equipment.Files[file]), ":")
	if !ok {
		return fmt.Errorf("the host has no credentials in %q", file)
	}
	t.saw("what is in ~/%s is what the proxy wants", file)
	return t.tunnels(t.server.addr.String(), 443, basic(user, password))
}

func proveSOCKS(t *trial) error {
	const unreachable = 4
	l, err := t.listen(t.server, 4001)
	if err != nil {
		return err
	}
	for to, status := range map[string]byte{t.server.addr.String(): 0, t.name: 0, "nobody.example.org": unreachable} {
		near, got, err := t.socks(to, 4001)
		if err != nil || got != status {
			return fmt.Errorf("CONNECT to %s is answered with status %d (%v), want %d", to, got, err, status)
		}
		if status != 0 {
			continue
		}
		far, err := t.accept(l, answerWait)
		if err == nil {
			err = flow{near, far}.alive()
		}
		if err != nil {
			return fmt.Errorf("CONNECT to %s: %w", to, err)
		}
	}
	t.saw("CONNECT by address and name to port 4001, status %d for an unknown name", unreachable)
	return nil
}

// socks asks the office's SOCKS proxy for a connection to an address or a name,
// and returns the status that it answers with (RFC 1928).
func (t *trial) socks(host string, number uint16) (*end, byte, error) {
	e, err := t.dial(t.host, 0, t.router.at(socksPort), answerWait)
	if err != nil {
		return nil, 0, err
	}
	to := "\x03" + string(rune(len(host))) + host
	if addr, err := netip.ParseAddr(host); err == nil {
		to = "\x01" + string(addr.AsSlice())
	}
	if got, err := e.reply("\x05\x01\x00", answerWait); err != nil || got != "\x05\x00" {
		return nil, 0, fmt.Errorf("the SOCKS proxy greets with %x (%v)", got, err)
	}
	got, err := e.reply("\x05\x01\x00"+to+string([]byte{byte(number >> 8), byte(number)}), answerWait)
	if err != nil || len(got) < 2 {
		return nil, 0, fmt.Errorf("the SOCKS proxy answers with %x (%v)", got, err)
	}
	return e, got[1], nil
}

func proveInternal(t *trial) error {
	if t.equipment.Search != officeDomain {
		return fmt.Errorf("short names are looked up in %q, want %q", t.equipment.Search, officeDomain)
	}
	for _, name := range []string{t.name, "dns.google"} {
		if err := t.wantAnswer(t.router.at(53), name, dns.TypeA, "NXDOMAIN"); err != nil {
			return err
		}
	}
	t.saw("public names are NXDOMAIN, %s is known", proxyName)
	return t.wantAnswer(t.router.at(53), proxyName, dns.TypeA, " "+t.router.addr.String())
}

func proveWPAD(t *trial) error {
	for _, name := range []string{"wpad." + officeDomain, "wpad"} {
		at, err := t.resolve(name)
		if err != nil {
			return err
		}
		r, body, err := t.fetch(http.MethodGet, netip.AddrPortFrom(at, 80), name, "/wpad.dat")
		if err != nil {
			return err
		}
		want := fmt.Sprintf("PROXY %s:%d", proxyName, httpPort)
		if r.StatusCode != http.StatusOK || !strings.Contains(body, "function FindProxyForURL(url, host)") || !strings.Contains(body, want) {
			return fmt.Errorf("http://%s/wpad.dat is %s %q", name, r.Status, body)
		}
	}
	if i := slices.IndexFunc(t.equipment.Env, func(v string) bool { return strings.Contains(v, proxyName) }); i >= 0 {
		return fmt.Errorf("the environment tells of the proxy as well: %s", t.equipment.Env[i])
	}
	t.saw("http://wpad.%s/wpad.dat names the proxy, the environment does not", officeDomain)
	return nil
}
