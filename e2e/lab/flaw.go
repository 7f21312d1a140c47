//go:build linux

package lab

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// flaw is what somebody has done to a wire; nothing at first.
type flaw struct {
	cut atomic.Bool // all frames are lost, without a word to either end
}

// The layout of struct virtio_net_hdr, with the Ethernet header behind it.
const (
	virtioGSOType    = 1
	virtioGSOSize    = 4
	virtioCsumStart  = 6 // of the transport header, from the Ethernet header on
	virtioCsumOffset = 8 // of the checksum in it: 16 is TCP's, 6 UDP's
	virtioSize       = 10
	etherSize        = 14
)

// packetSize is the length of the IP packet in a frame, or of the longest of
// those that the sender left to its card to make of one segment.
func packetSize(frame []byte) int {
	if len(frame) < virtioSize+etherSize {
		return 0
	}
	native := binary.NativeEndian
	if frame[virtioGSOType] == unix.VIRTIO_NET_HDR_GSO_NONE {
		return len(frame) - virtioSize - etherSize
	}
	transport := int(native.Uint16(frame[virtioCsumStart:]))
	return transport - etherSize + transportSize(frame, virtioSize+transport) + int(native.Uint16(frame[virtioGSOSize:]))
}

// transportSize is the length of the TCP or UDP header at an offset of a frame.
func transportSize(frame []byte, at int) int {
	const tcpChecksum, tcpDataOffset, udpSize = 16, 12, 8
	if binary.NativeEndian.Uint16(frame[virtioCsumOffset:]) != tcpChecksum || at+tcpDataOffset >= len(frame) {
		return udpSize
	}
	return int(frame[at+tcpDataOffset]>>4) * 4
}
