//go:build !linux

package probe

import "net"

// Elsewhere the system keeps ICMP errors to itself, but for what they make of a
// socket's next call.

func watchICMP(*net.UDPConn) {}

func icmpOf(*net.UDPConn) string { return "" }
