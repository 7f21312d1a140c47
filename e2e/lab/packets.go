//go:build linux

package lab

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packets are the arguments of recvmmsg and sendmmsg, used again and again.
type packets struct {
	bufs [batch][]byte
	iovs [batch]unix.Iovec
	msgs [batch]mmsghdr
}

// mmsghdr is struct mmsghdr of <sys/socket.h>.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

func newBatch() *packets {
	p := new(packets)
	for i := range p.msgs {
		p.msgs[i].hdr.Iov = &p.iovs[i]
		p.msgs[i].hdr.SetIovlen(1)
	}
	return p
}

// set makes b the buffer of message i.
func (p *packets) set(i int, b []byte) {
	p.bufs[i] = b
	p.iovs[i].Base = unsafe.SliceData(b)
	p.iovs[i].SetLen(len(b))
}

// take returns the n bytes that message i received. A small frame is copied; for
// a large one the buffer goes along, and the message gets another.
func (p *packets) take(i, n int) []byte {
	if n <= smallFrame {
		small := smallFrames.Get().(*[smallFrame]byte)
		return small[:copy(small[:], p.bufs[i][:n])]
	}
	large := p.bufs[i][:n]
	p.set(i, newLarge())
	return large
}

// release gives the buffers of the first n messages back.
func (p *packets) release(n int) {
	for i := range n {
		switch b := p.bufs[i]; cap(b) {
		case smallFrame:
			smallFrames.Put((*[smallFrame]byte)(b[:smallFrame]))
		case maxFrame:
			largeFrames.Put((*[maxFrame]byte)(b[:maxFrame]))
		}
		p.bufs[i] = nil
	}
}

var (
	smallFrames = sync.Pool{New: func() any { return new([smallFrame]byte) }}
	largeFrames = sync.Pool{New: func() any { return new([maxFrame]byte) }}
)

func newLarge() []byte { return largeFrames.Get().(*[maxFrame]byte)[:] }

func (p *packets) syscall(call, fd uintptr, first, n int) (int, syscall.Errno) {
	moved, _, errno := unix.Syscall6(call, fd, uintptr(unsafe.Pointer(&p.msgs[first])), uintptr(n-first), unix.MSG_DONTWAIT, 0, 0)
	return int(moved), errno
}
