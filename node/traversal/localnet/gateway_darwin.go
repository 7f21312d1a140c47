package localnet

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// gatewayMAC is the gateway's hardware address as the kernel's table of
// neighbours has it, "" where that has none.
func gatewayMAC(_ context.Context, w way) string {
	if !w.gateway.IsValid() {
		return ""
	}
	table, err := neighbours()
	if err != nil {
		return ""
	}
	if mac := table[w.gateway.WithZone("")]; mac != "" {
		return mac
	}
	// The answer comes too late for now: there is nothing to wait on. It is there
	// when the fingerprint is taken again, to remember by.
	_ = greet(w.gateway, w.link)
	return ""
}

func neighbours() (map[netip.Addr]string, error) {
	raw, err := route.FetchRIB(unix.AF_UNSPEC, unix.NET_RT_FLAGS, unix.RTF_LLINFO)
	if err != nil {
		return nil, err
	}
	messages, err := route.ParseRIB(unix.NET_RT_FLAGS, raw)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, m := range messages {
		r, ok := m.(*route.RouteMessage)
		if !ok || len(r.Addrs) <= unix.RTAX_GATEWAY {
			continue
		}
		mac, ok := r.Addrs[unix.RTAX_GATEWAY].(*route.LinkAddr)
		if !ok || len(mac.Addr) == 0 {
			continue
		}
		switch a := r.Addrs[unix.RTAX_DST].(type) {
		case *route.Inet4Addr:
			out[netip.AddrFrom4(a.IP)] = net.HardwareAddr(mac.Addr).String()
		case *route.Inet6Addr:
			out[netip.AddrFrom16(a.IP)] = net.HardwareAddr(mac.Addr).String()
		}
	}
	return out, nil
}
