//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Deep packet inspection: rules that look at what a packet carries.

// payloadInner is what follows the transport header (NFT_PAYLOAD_INNER_HEADER,
// Linux 5.16).
const payloadInner expr.PayloadBase = 3

// multistreamHeader is how every libp2p connection over TCP begins, from both
// ends, before any encryption: a length and "/multistream/1.0.0\n", as much of
// it as one register holds.
const multistreamHeader = "\x13/multistream/1."

// ct mark N drop; @ih,0,128 "..." ct mark set N drop
//
// Both directions are looked at: a listener may speak first.
func swallow(opening string) rule {
	return rule{name: "swallow", does: fmt.Sprintf("TCP flows that open with %q are swallowed", opening),
		apply: func(f *firewall) { f.cut(bytesAt(payloadInner, 0, opening), drop()) },
		proof: func(t *trial) error { return t.swallows(opening + "0.0\n") }}
}

// The same with "reject with tcp reset" in place of drop. Each end is told once
// it says something on the flow.
func resetFlow(opening string) rule {
	return rule{name: "reset-flow", does: fmt.Sprintf("TCP flows that open with %q are reset", opening),
		apply: func(f *firewall) { f.cut(bytesAt(payloadInner, 0, opening), reset()) },
		proof: func(t *trial) error { return t.resets(opening + "0.0\n") }}
}

// @ih,0,8 0x16 -m string --algo bm --string "|06|libp2p" -> reject with tcp reset
//
// 22 begins a TLS record of the handshake; the name with its length before it
// stands in the ClientHello's list of protocols (RFC 7301). libp2p's TLS offers
// it in the clear over TCP; QUIC encrypts it.
func resetALPN(name string) rule {
	return rule{name: "reset-alpn", does: fmt.Sprintf("TCP flows whose TLS hello offers %q are reset", name), apply: func(f *firewall) {
		f.cut(slices.Concat(bytesAt(payloadInner, 0, "\x16"), contains(string(rune(len(name)))+name)), reset())
	}, proof: func(t *trial) error { return t.resetsHello(name) }}
}

// @th,64,2 3 @th,72,32 1 drop
//
// The long header of QUIC version 1 (RFC 9000, section 17.2), without which no
// connection begins.
var dropQUIC = rule{name: "drop-quic", does: "packets with the long header of QUIC version 1 are dropped", apply: func(f *firewall) {
	const payload = 8 // behind the UDP header
	f.passing(protocol(unix.IPPROTO_UDP),
		bitsAt(expr.PayloadBaseTransportHeader, payload, 0xc0, 0xc0),
		bytesAt(expr.PayloadBaseTransportHeader, payload+1, "\x00\x00\x00\x01"), drop())
}, proof: (*trial).dropsQUICOnly}

// cut stops a TCP flow at the packet that matches, and all of it from there on.
func (f *firewall) cut(match, stop []expr.Any) {
	f.marks++
	mark := binaryutil.NativeEndian.PutUint32(f.marks)
	f.passing([]expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeyMARK},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: mark},
	}, stop)
	f.passing(protocol(unix.IPPROTO_TCP), match, []expr.Any{
		&expr.Immediate{Register: 1, Data: mark},
		&expr.Ct{Register: 1, Key: expr.CtKeyMARK, SourceRegister: true},
	}, stop)
}

// contains looks for text anywhere in a packet. nftables itself looks at fixed
// offsets only, so this is iptables' match "string", revision 1.
func contains(text string) []expr.Any {
	// struct xt_string_info of <linux/netfilter/xt_string.h>: u16 from_offset,
	// u16 to_offset, char algo[16], char pattern[128], u8 patlen, u8 flags, and a
	// pointer of the kernel's own at the next multiple of 8.
	const algo, pattern, patlen, size = 4, 20, 148, 160
	info := make(xt.Unknown, size)
	binary.NativeEndian.PutUint16(info[2:], ^uint16(0)) // to the end
	copy(info[algo:], "bm")                             // Boyer-Moore
	copy(info[pattern:patlen], text)
	info[patlen] = byte(len(text))
	return []expr.Any{&expr.Match{Name: "string", Rev: 1, Info: &info}}
}
