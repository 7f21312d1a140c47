package localnet

import (
	"context"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gatewayMAC is the gateway's hardware address, "" where there is none: on a
// tunnel, or when the gateway does not answer.
func gatewayMAC(ctx context.Context, w way) string {
	if !w.gateway.IsValid() {
		return ""
	}
	if mac := neighbour(w); mac != "" || !asksNeighbours(w) {
		return mac
	}
	ctx, cancel := context.WithTimeout(ctx, macPatience)
	defer cancel()
	told, err := subscribe(ctx, unix.RTNLGRP_NEIGH)
	if err != nil {
		return ""
	}
	if err := greet(w.gateway, w.link); err != nil {
		return "" // nobody was asked, so there is no answer to wait for
	}
	for {
		if mac := neighbour(w); mac != "" {
			return mac
		}
		select {
		case <-ctx.Done():
			return ""
		case _, open := <-told:
			if !open {
				return neighbour(w)
			}
		}
	}
}

// asksNeighbours tells whether there are hardware addresses on the link.
func asksNeighbours(w way) bool {
	l, err := netlink.LinkByIndex(w.index)
	return err == nil && l.Attrs().RawFlags&unix.IFF_NOARP == 0
}

// neighbour looks the gateway up in the kernel's table.
func neighbour(w way) string {
	list, err := netlink.NeighList(w.index, netlink.FAMILY_ALL)
	if err != nil {
		return ""
	}
	for _, n := range list {
		a, _ := netip.AddrFromSlice(n.IP)
		if a.Unmap() == w.gateway && n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
			return n.HardwareAddr.String()
		}
	}
	return ""
}
