//go:build linux

package lab

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// publicResolver is one of the resolvers that the whole world uses, at its real
// addresses: plain DNS, DNS over TLS (RFC 7858) and over HTTPS (RFC 8484). Its
// certificate names what the real one's does.
type publicResolver struct {
	addrs []string
	name  string // has the addresses in DNS as well
	also  []string
}

var publicResolvers = []publicResolver{
	{[]string{"1.1.1.1", "1.0.0.1"}, "cloudflare-dns.com", []string{"*.cloudflare-dns.com", "one.one.one.one"}},
	{[]string{"8.8.8.8", "8.8.4.4"}, "dns.google", []string{"dns.google.com", "*.dns.google.com", "8888.google"}},
	{[]string{"9.9.9.9", "149.112.112.112"}, "dns.quad9.net", []string{"*.quad9.net"}},
}

const (
	dnsPath = "/dns-query" // where all three have it
	dnsType = "application/dns-message"
)

// The ports of DNS over TLS and over HTTPS.
const (
	portDoT = 853
	portDoH = 443
)

// startPublic starts what belongs to no network: the resolver of hosts that have
// no router, the world's public resolvers, STUN, ACME, and the pages by which
// systems find out whether they are online.
func (n *network) startPublic(world *zone, fail func(error)) error {
	if err := answers(world.answer).serve(n.core, resolver, fail); err != nil {
		return err
	}
	for _, p := range publicResolvers {
		if err := p.start(n.core, n.pki.web, world, fail); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	if err := startSTUN(n.core, world, fail); err != nil {
		return err
	}
	if err := n.startACME(world, fail); err != nil {
		return err
	}
	return startChecks(n.core, world, fail)
}

func (p publicResolver) start(core netNS, ca *authority, world *zone, fail func(error)) error {
	cert, err := ca.issue(append(append([]string{p.name}, p.also...), p.addrs...)...)
	if err != nil {
		return err
	}
	for _, text := range p.addrs {
		addr := netip.MustParseAddr(text)
		world.addName(p.name, addr)
		err := core.edit(func(h *netlink.Handle) error { return addAddr(h, "lo", netip.PrefixFrom(addr, 32)) })
		if err == nil {
			err = serveEncrypted(core, addr, cert, world.answer, fail)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func serveEncrypted(core netNS, addr netip.Addr, cert *tls.Certificate, f answers, fail func(error)) error {
	dot, err1 := core.listen(netip.AddrPortFrom(addr, portDoT))
	doh, err2 := core.listen(netip.AddrPortFrom(addr, portDoH))
	if err := errors.Join(err1, err2, f.serve(core, addr, fail)); err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{*cert}}
	overTLS := &dns.Server{Listener: tls.NewListener(dot, config), Handler: f}
	overHTTPS := &http.Server{Handler: f.overHTTP(), TLSConfig: config.Clone(), ErrorLog: nobody, ReadHeaderTimeout: clientPatience}
	go func() { fail(fmt.Errorf("serve DNS over TLS on %s: %w", addr, overTLS.ActivateAndServe())) }()
	go func() { fail(fmt.Errorf("serve DNS over HTTPS on %s: %w", addr, overHTTPS.ServeTLS(doh, "", ""))) }()
	return nil
}

func (f answers) overHTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+dnsPath, func(w http.ResponseWriter, r *http.Request) {
		text, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
		if err != nil {
			http.Error(w, "dns: "+err.Error(), http.StatusBadRequest)
			return
		}
		f.writeReply(w, text)
	})
	mux.HandleFunc("POST "+dnsPath, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != dnsType {
			http.Error(w, "want "+dnsType, http.StatusUnsupportedMediaType)
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, dns.MaxMsgSize))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		f.writeReply(w, text)
	})
	return mux
}

func (f answers) writeReply(w http.ResponseWriter, query []byte) {
	q := new(dns.Msg)
	if err := q.Unpack(query); err != nil {
		http.Error(w, "no DNS message: "+err.Error(), http.StatusBadRequest)
		return
	}
	text, err := f.reply(q).Pack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", dnsType)
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", dnsTTL))
	_, _ = w.Write(text) // whoever asked asks again
}
