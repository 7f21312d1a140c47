//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// The proofs of resolvers that do not tell the truth, and of portals.

func proveWithoutDNSAddr(t *trial) error {
	at := t.router.at(53)
	err := errors.Join(
		t.wantAnswer(at, t.dnsaddr, dns.TypeTXT, "NXDOMAIN"),
		t.wantAnswer(at, t.name, dns.TypeA, " "+t.server.addr.String()),
		t.wantAnswer(at, t.name, dns.TypeTXT, "NOERROR"))
	if t.lets(udp(53)) && t.lets(tcp(53)) {
		err = errors.Join(err, t.wantAnswer(aPublicResolver, t.dnsaddr, dns.TypeTXT, `/tcp/4001"`))
		t.saw("a public resolver has TXT %s", t.dnsaddr)
	}
	t.saw("the router's says NXDOMAIN, and knows the address of %s", t.name)
	return err
}

// resolver is the service that has the last word on names; empty: none has taken
// it from the internet's own.
func (p Profile) resolver() string {
	word := ""
	for _, s := range p.services {
		if s.names {
			word = s.name
		}
	}
	return word
}

// ofNames is a proof of what a service says of names, which counts where the
// last word is its own, or that of the one it changes.
func ofNames(lastWord string, p proof) proof {
	return func(t *trial) error {
		if s := t.profile.resolver(); s != lastWord {
			return fmt.Errorf("%w: of names, %s has the last word", errHidden, s)
		}
		return p(t)
	}
}

// aPublicResolver is one that answers hosts of every network that lets it.
var aPublicResolver = netip.AddrPortFrom(netip.MustParseAddr(publicResolvers[2].addrs[0]), 53)

// proveRedirectedNames is nil when there is an answer from where nobody answers.
func proveRedirectedNames(t *trial) error {
	for _, network := range []string{"udp", "tcp"} {
		if a, err := t.ask(network, t.server.at(53), t.name, dns.TypeA, answerWait); err != nil || a == "" {
			return fmt.Errorf("nobody at %s answers over %s: %w", t.server.at(53), network, err)
		}
	}
	t.saw("a server that has no DNS answers over UDP and TCP")
	return nil
}

func proveLies(t *trial) error {
	own := " " + t.router.addr.String()
	for _, name := range []string{t.name, "nobody.example.org"} {
		err := errors.Join(t.wantAnswer(t.router.at(53), name, dns.TypeA, own), t.wantAnswer(t.router.at(53), name, dns.TypeAAAA, "NOERROR"))
		if err != nil {
			return err
		}
	}
	r, body, err := t.fetch(http.MethodGet, t.router.at(80), t.name, "/generate_204")
	if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(body, "Did you mean") {
		return fmt.Errorf("there is no page at the router: %s %q (%v)", statusOf(r), body, err)
	}
	t.saw("every name is%s, where a page is", own)
	return t.wantAnswer(t.router.at(53), t.dnsaddr, dns.TypeTXT, `"this name is brought to you by your provider"`)
}

// portalLogin is what a person at the portal's page does.
func (t *trial) portalLogin(at netip.AddrPort) error {
	r, body, err := t.fetch(http.MethodPost, at, portalName, "/login")
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("the login is answered with %s %q (%v)", statusOf(r), body, err)
	}
	return nil
}

func provePortal(t *trial) error {
	r, body, err := t.fetch(http.MethodGet, t.router.at(80), portalName, "/login")
	if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(body, "<form") {
		return fmt.Errorf("the portal's page is %s %q (%v)", statusOf(r), body, err)
	}
	r, _, err = t.fetch(http.MethodGet, t.router.at(80), "connectivitycheck.gstatic.com", "/generate_204")
	if err != nil || r.Header.Get("Location") != "http://"+portalName+"/login" {
		return fmt.Errorf("a request for another page is answered with %s to %q (%v)", statusOf(r), r.Header.Get("Location"), err)
	}
	if !r.Close {
		return errors.New("the portal keeps connections, which would end there after the login as well")
	}
	if at, err := t.resolve(portalName); err != nil || at != t.router.addr {
		return fmt.Errorf("%s is %s (%v)", portalName, at, err)
	}
	t.saw("requests for other pages are sent to http://%s/login, whose form is answered", portalName)
	return errors.Join(t.portalLogin(t.router.at(80)), t.portalLogin(t.router.at(portalPort)))
}

// proveUntilLogin logs in, so it is proven before what can be seen afterwards.
func proveUntilLogin(t *trial) error {
	ways, err := t.ways()
	if err != nil {
		return err
	}
	for _, p := range ways {
		if err := t.refusesStrangers(p); err != nil {
			return fmt.Errorf("%s before the login is not refused: %w", p, err)
		}
	}
	r, _, err := t.fetch(http.MethodGet, t.server.at(80), t.name, "/")
	if err != nil || r.StatusCode != http.StatusFound {
		return fmt.Errorf("HTTP before the login is answered with %s (%v)", statusOf(r), err)
	}
	t.saw("refused before the login: %s", joined(ways))
	t.saw("HTTP is sent to %s", r.Header.Get("Location"))
	if err := t.portalLogin(t.server.at(80)); err != nil {
		return err
	}
	for _, p := range ways {
		if err := t.passes(p); err != nil {
			return fmt.Errorf("after the login: %w", err)
		}
	}
	t.saw("passed afterwards: %s", joined(ways))
	return nil
}

// refusesStrangers is nil when what goes to a port is answered with an error.
func (t *trial) refusesStrangers(p port) error {
	if p.network == "udp" {
		return t.refusesUDP(p.number)
	}
	l, err := t.listen(t.server, p.number)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := t.dial(t.host, 0, t.server.at(p.number), answerWait); !isRefused(err) {
		return orConnects(err)
	}
	return nil
}
