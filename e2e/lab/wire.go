//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a cable between two interfaces, as good as its link, and perhaps with
// somebody who looks at what passes: packet sockets, since some kernels have no
// netem and close /dev/net/tun to ordinary users. Frames keep their virtio header,
// so that checksums that the sender left to its card and segments of up to 64 KiB
// pass as they are, unless the link or the box has to see them packet by packet.
type wire struct {
	ways [2]*way // from the near end, and to it
	flaw flaw
	link atomic.Pointer[link]
	box  atomic.Pointer[box] // nil: nobody looks into what passes

	mu       sync.Mutex // guards the fields below
	asked    link       // what it is to be
	smoothed bool       // and is not for now
}

// way is one direction of a wire.
type way struct {
	*wire
	number   int // 0 is from the near end
	from, to *tap
	course   course
	queue    chan frame
	queued   atomic.Int64 // bytes in queue
	dropped  atomic.Int64 // frames that found it full
}

type frame struct {
	data []byte // virtio header and Ethernet frame
	due  time.Time
}

const (
	// maxFrame holds the largest segment (64 KiB) with its headers.
	maxFrame = 66 << 10
	// smallFrame holds an ordinary one; larger ones are handed on without a copy.
	smallFrame = 2 << 10
	// batch is how many frames one system call moves at most.
	batch = 16
	// queueFrames and queueBytes bound what is on its way; what comes on top is
	// dropped, as a full router does. 16 MiB is 10 ms of 12 Gbit/s.
	queueFrames = 8192
	queueBytes  = 16 << 20
	// socketBuffer is what is asked of the kernel. Root gets it, others at most
	// net.core.rmem_max: with the usual 208 KiB of that, a stream of 3 Gbit/s lost 2 % of
	// its segments, one of 0.5 Gbit/s 0.2-2 %, and both were about as fast as without loss.
	socketBuffer = 8 << 20
)

// newWire connects interfaces near and far of the calling thread's namespace. It
// is the n-th wire of its lab.
func newWire(n int, near, far string) (*wire, error) {
	ta, err := openTap(near)
	if err != nil {
		return nil, err
	}
	tb, err := openTap(far)
	if err != nil {
		ta.file.Close()
		return nil, err
	}
	w := new(wire)
	w.link.Store(new(link))
	for i, ends := range [2][2]*tap{{ta, tb}, {tb, ta}} {
		w.ways[i] = &way{wire: w, number: i, from: ends[0], to: ends[1], course: newCourse(2*n + i), queue: make(chan frame, queueFrames)}
	}
	return w, nil
}

// run moves frames until the sockets fail. Lab init ends by exiting, so nothing
// stops a wire before.
func (w *wire) run(fail func(error)) {
	for _, one := range w.ways {
		go func() { fail(one.receive()) }()
		go func() { fail(one.send()) }()
	}
}

// set gives a wire the qualities of a link, and returns those it had.
func (w *wire) set(l link) (before link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, w.asked = w.asked, l
	w.update()
	return before
}

// smooth has a wire be in order, while something else is tried over it, or lets
// it be as it was asked to.
func (w *wire) smooth(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.smoothed = on
	w.update()
}

func (w *wire) update() {
	l := w.asked
	if w.smoothed {
		l.Delay, l.Jitter, l.Loss, l.Reorder, l.Rate = min(l.Delay, provingLatency), 0, 0, 0, 0
	}
	w.link.Store(&l)
}

// receive takes frames off the near interface and stamps when they are due.
func (w *way) receive() error {
	in := newBatch()
	for i := range in.bufs {
		in.set(i, newLarge())
	}
	for {
		n, err := w.from.move(unix.SYS_RECVMMSG, in, batch)
		if err != nil {
			return fmt.Errorf("read from %s: %w", w.from.name, err)
		}
		now, l := time.Now(), w.link.Load()
		for i := range n {
			size := int(in.msgs[i].n)
			if in.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 || w.queued.Load() > queueBytes {
				w.dropped.Add(1)
				continue
			}
			if !w.lets(in.bufs[i][:size], l) {
				continue
			}
			due, f := w.course.takes(l, size-virtioSize, now)
			switch f {
			case arrives:
				w.enqueue(frame{data: in.take(i, size), due: due})
			case overtaken:
				late := frame{data: in.take(i, size), due: due}
				time.AfterFunc(overtaking, func() { w.enqueue(late) })
			case crowdedOut:
				w.dropped.Add(1)
			}
		}
	}
}

// lets tells whether a frame gets onto the wire at all.
func (w *way) lets(frame []byte, l *link) bool {
	if w.flaw.cut.Load() || l.maxPacket > 0 && packetSize(frame) > l.maxPacket {
		return false
	}
	b := w.box.Load()
	return b == nil || b.lets(w.number, frame)
}

// inject puts a frame of a box's own onto the wire.
func (w *wire) inject(way int, data []byte) {
	w.ways[way].enqueue(frame{data: data, due: time.Now().Add(w.link.Load().Delay)})
}

func (w *way) enqueue(f frame) {
	w.queued.Add(int64(len(f.data)))
	select {
	case w.queue <- f:
	default:
		w.dropped.Add(1)
		w.queued.Add(-int64(len(f.data)))
	}
}

// send puts frames on the far interface when they are due, all that are due at
// once.
func (w *way) send() error {
	clock, err := newAlarm()
	if err != nil {
		return err
	}
	out := newBatch()
	next := <-w.queue
	for {
		if err := clock.sleepUntil(next.due); err != nil {
			return err
		}
		now := time.Now()
		n, bytes, more := 0, 0, true
		for more && n < batch && !next.due.After(now) {
			out.set(n, next.data)
			bytes += len(next.data)
			n++
			select {
			case next = <-w.queue:
			default:
				more = false
			}
		}
		if err := w.sendAll(out, n); err != nil {
			return err
		}
		w.queued.Add(-int64(bytes))
		out.release(n)
		if !more {
			next = <-w.queue
		}
	}
}

// sendAll sends the first n frames of out. A frame that the kernel refuses is
// lost, like one that a cable garbles.
func (w *way) sendAll(out *packets, n int) error {
	for done := 0; done < n; {
		sent, err := w.to.moveFrom(unix.SYS_SENDMMSG, out, done, n)
		switch {
		case err == nil:
			done += sent
		case errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF):
			return fmt.Errorf("write to %s: %w", w.to.name, err)
		default:
			w.dropped.Add(1)
			done++
		}
	}
	return nil
}

// tap is a packet socket that sees and sends all frames of one interface.
type tap struct {
	name string
	file *os.File
	conn syscall.RawConn
}

func openTap(name string) (*tap, error) {
	index, err := interfaceIndex(name)
	if err != nil {
		return nil, fmt.Errorf("find wire end %s: %w", name, err)
	}
	// Protocol 0 takes nothing until bind names the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	t := &tap{name: name, file: os.NewFile(uintptr(fd), "wire "+name)}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network byte order
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF),
		enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
	)
	if err == nil {
		t.conn, err = t.file.SyscallConn()
	}
	if err != nil {
		t.file.Close()
		return nil, fmt.Errorf("set up the packet socket of %s: %w", name, err)
	}
	return t, nil
}

// enlarge asks for a larger socket buffer, past the machine's limit if it may.
func enlarge(fd, force, ask int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, ask, socketBuffer)
}

func (t *tap) move(call uintptr, p *packets, n int) (int, error) { return t.moveFrom(call, p, 0, n) }

// moveFrom receives into, or sends, messages first to n-1, waiting until one can
// be moved; it returns how many were.
func (t *tap) moveFrom(call uintptr, p *packets, first, n int) (int, error) {
	wait := t.conn.Read
	if call == unix.SYS_SENDMMSG {
		wait = t.conn.Write
	}
	var moved int
	var errno syscall.Errno
	err := wait(func(fd uintptr) bool {
		errno = unix.EINTR
		for errno == unix.EINTR {
			moved, errno = p.syscall(call, fd, first, n)
		}
		return errno != unix.EAGAIN
	})
	if err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	return moved, nil
}
