package probe

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

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

func FuzzICMP(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 113, 0, 0, 0, 2, 3, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, oob []byte) { readICMP(oob) })
}
