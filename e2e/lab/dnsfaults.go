//go:build linux

package lab

import (
	"io"
	"net/http"
	"strings"

	"github.com/miekg/dns"
)

// withoutDNSAddr denies the names below which /dnsaddr addresses are published,
// as resolvers do that filter TXT records against tunnels.
var withoutDNSAddr = service{name: "no-dnsaddr", does: "the resolver denies TXT records of _dnsaddr names", proof: ofNames("", proveWithoutDNSAddr), start: func(r *router) error {
	honest := r.names
	r.names = func(reply *dns.Msg, q dns.Question) {
		if q.Qtype == dns.TypeTXT && strings.HasPrefix(strings.ToLower(q.Name), "_dnsaddr.") {
			reply.Rcode = dns.RcodeNameError
			return
		}
		honest(reply, q)
	}
	return nil
}}

// lies is a resolver for which every name is the router's own address, where a
// page is, and every text its own.
var lies = service{name: "lies", does: "the resolver says of every name that it is the router", proof: ofNames("lies", proveLies), names: true, ports: []uint16{80}, start: func(r *router) error {
	r.names = func(reply *dns.Msg, q dns.Question) {
		switch q.Qtype {
		case dns.TypeA:
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header(q.Name, q.Qtype), A: r.addr.AsSlice()})
		case dns.TypeTXT:
			reply.Answer = append(reply.Answer, &dns.TXT{Hdr: header(q.Name, q.Qtype), Txt: []string{"this name is brought to you by your provider"}})
		}
	}
	return r.serveHTTP(80, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<title>Search</title>Did you mean something else?\n")
	}))
}}
