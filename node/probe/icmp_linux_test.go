package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/node/netcheck"
)

func TestAnICMPErrorOfTheKernelHasItsName(t *testing.T) {
	closed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := closed.LocalAddr().String()
	closed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var rec netcheck.Record
	err = exchangeUDP(ctx, new(transaction), &rec, to, []byte("anybody?"), func([]byte) error { return nil })
	if !errors.Is(err, unix.ECONNREFUSED) || rec.ICMP != "port-unreachable" {
		t.Errorf("%v, ICMP %q", err, rec.ICMP)
	}
}

// told is ICMP's "port unreachable" as Linux tells of it, from a sender.
func told(by netip.Addr) []byte {
	level, kind, reason := unix.IPPROTO_IP, unix.IP_RECVERR, []byte{unix.SO_EE_ORIGIN_ICMP, 3, 3}
	sockaddr := make([]byte, unix.SizeofSockaddrInet4)
	binary.NativeEndian.PutUint16(sockaddr, unix.AF_INET)
	if by.Is6() {
		level, kind, reason = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, []byte{unix.SO_EE_ORIGIN_ICMP6, 1, 4}
		sockaddr = make([]byte, unix.SizeofSockaddrInet6)
		binary.NativeEndian.PutUint16(sockaddr, unix.AF_INET6)
		copy(sockaddr[8:], by.AsSlice())
	} else {
		copy(sockaddr[4:], by.AsSlice())
	}
	data := slices.Concat([]byte{0, 0, 0, 0}, reason, make([]byte, 9), sockaddr)
	oob := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(len(data)))
	copy(oob[unix.CmsgLen(0):], data)
	return oob
}

func TestAFirewallsPortUnreachableIsNotTheMachinesOwn(t *testing.T) {
	for _, to := range []string{"11.0.0.1", "2a00::1"} {
		own := netip.MustParseAddr(to)
		for by, want := range map[netip.Addr]string{own: "port-unreachable", own.Next(): "port-unreachable-by-another"} {
			if got := readICMP(told(by), own); got != want {
				t.Errorf("%s says of %s: %q, want %q", by, own, got, want)
			}
		}
	}
}

func FuzzICMP(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 113, 0, 0, 0, 2, 3, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, oob []byte) { readICMP(oob, netip.MustParseAddr("11.0.0.1")) })
}
