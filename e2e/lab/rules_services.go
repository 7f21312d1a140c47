//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The rules of profiles that have services.

// iifname "lan" tcp dport 443 redirect to :8443
var redirectTLS = rule{name: "redirect-tls", does: "TCP to port 443 goes to the router", takes: func(p port) bool { return p == tcp(443) },
	proof: func(t *trial) error { return proveRedirected(t, 443) }, apply: func(f *firewall) { f.redirect(443, interceptTLSPort) }}

// iifname "lan" tcp dport 80 redirect to :8081
var redirectPlain = rule{name: "redirect-plain", does: "TCP to port 80 goes to the router", takes: func(p port) bool { return p == tcp(80) },
	proof: func(t *trial) error { return proveRedirected(t, 80) }, apply: func(f *firewall) { f.redirect(80, interceptPlainPort) }}

// iifname "lan" udp dport 53 redirect; the same for tcp
//
// It is all the same whom a host asks: its router answers.
var redirectDNS = rule{name: "redirect-dns", does: "whatever server is asked for a name, the router answers",
	takes: func(p port) bool { return p.number == 53 }, proof: proveRedirectedNames, apply: func(f *firewall) {
		for _, number := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			f.add(f.prerouting(), in(lan), protocol(number), destination(expr.CmpOpEq, 53), []expr.Any{&expr.Redir{}})
		}
	}}

// iifname "lan" ip saddr != @authed tcp dport 80 redirect
// iifname "lan" ip saddr != @authed meta l4proto tcp reject with tcp reset
// iifname "lan" ip saddr != @authed reject with icmp admin-prohibited
var untilLogin = rule{name: "until-login", does: "until a host has logged in, TCP to port 80 goes to the router and all else is refused", first: true, proof: proveUntilLogin, apply: func(f *firewall) {
	set := &nftables.Set{Table: f.table, Name: authed, KeyType: nftables.TypeIPAddr}
	_ = f.conn.AddSet(set, nil) // without elements nothing can fail before finish
	stranger := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
	}
	tcp := protocol(unix.IPPROTO_TCP)
	f.add(f.prerouting(), in(lan), stranger, tcp, destination(expr.CmpOpEq, 80), []expr.Any{&expr.Redir{}})
	f.outgoing(stranger, tcp, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	f.outgoing(stranger, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: codeAdminProhibited}})
}}

const (
	authed              = "authed" // the set of those who have logged in
	sourceOffset        = 12       // of an IPv4 header
	codeAdminProhibited = 13       // of ICMP's destination unreachable (RFC 1812, section 5.2.7.1)
)

// admit adds a host to those who have logged in. Its next packet passes.
func admit(ns netNS, host netip.Addr) error {
	conn, err := nftables.New(nftables.WithNetNSFd(ns.fd))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("list the tables of nftables: %w", err)
	}
	for _, t := range tables {
		set, err := conn.GetSetByName(t, authed)
		if err != nil {
			continue
		}
		element := []nftables.SetElement{{Key: host.AsSlice()}}
		if err := errors.Join(conn.SetAddElements(set, element), conn.Flush()); err != nil {
			return fmt.Errorf("add %s to the set %s: %w", host, authed, err)
		}
		return nil
	}
	return fmt.Errorf("nftables has no set %s", authed)
}

// prerouting is where destinations are rewritten. Adding it again changes nothing.
func (f *firewall) prerouting() *nftables.Chain {
	return f.conn.AddChain(&nftables.Chain{Name: "prerouting", Table: f.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
}

// redirect sends what goes to a TCP port anywhere to one of the router itself.
func (f *firewall) redirect(port, to uint16) {
	f.redirects = true
	f.add(f.prerouting(), in(lan), protocol(unix.IPPROTO_TCP), destination(expr.CmpOpEq, port), []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Redir{RegisterProtoMin: 1},
	})
}
