//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// Lab init records traffic for whoever connects to a socket in the lab's folder:
//
//	-> a Capture as one line of JSON
//	<- a status as one line of JSON, once every frame from then on is recorded
//	<- pcapng, until the client closes its direction; then the count of what was
//	   seen and lost, and the end
//
// Only the lab's user can reach that folder, and hosts see nothing of it.

// Capture records traffic as pcapng into to, until ctx is done: then what has been
// seen so far is complete in to, and the error is nil. started is called when
// everything from then on is recorded; it may be nil.
func (l *Lab) Capture(ctx context.Context, c Capture, to io.Writer, started func()) error {
	return record(ctx, l.Dir, c, to, started)
}

// Capture is Lab.Capture of a lab that another process keeps.
func (s Standing) Capture(ctx context.Context, c Capture, to io.Writer, started func()) error {
	return record(ctx, s.Dir, c, to, started)
}

func record(ctx context.Context, dir string, c Capture, to io.Writer, started func()) error {
	err := recordFrom(ctx, plan{Dir: dir}.captureSocket(), c, to, started)
	if err != nil {
		return fmt.Errorf("capture %s: %w", strings.Join(c.Links, ", "), err)
	}
	return nil
}

func recordFrom(ctx context.Context, socket string, c Capture, to io.Writer, started func()) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseWrite() }) // if it is closed already, so much the better
	defer stop()
	if err := json.NewEncoder(conn).Encode(c); err != nil && ctx.Err() == nil {
		return err
	}
	from := bufio.NewReaderSize(conn, 64<<10)
	line, err := from.ReadBytes('\n')
	if err == io.EOF && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the lab: %w", err)
	}
	if _, err := next(json.NewDecoder(strings.NewReader(string(line)))); err != nil {
		return err
	}
	if started != nil {
		started()
	}
	if _, err = io.Copy(to, from); err == nil && ctx.Err() == nil {
		return errors.New("the lab has ended")
	}
	return err
}

func (p plan) captureSocket() string { return filepath.Join(p.Dir, "capture") }

// serveCaptures lets clients record, from now until the lab's end.
func (n *network) serveCaptures(log *slog.Logger) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.plan.captureSocket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for captures: %w", err)
	}
	// What is told of a link is as it was built. Orders change the plan meanwhile.
	built := n.plan
	built.Sites = slices.Clone(built.Sites)
	built.Machines = slices.Clone(built.Machines)
	links := n.links(built)
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				log.Error("no more captures", "err", err)
				return
			}
			go func() {
				defer conn.Close()
				if err := serveCapture(conn, links); err != nil {
					log.Warn("a capture ended", "err", err)
				}
			}()
		}
	}()
	return nil
}

// tapped is where frames can be recorded.
type tapped struct {
	name  string // as a Capture names it
	of    string // the network; empty for a host
	ns    netNS
	iface string // empty: all but loopback, whatever becomes of them
	about string
}

// links are all that the lab has, those of hosts first.
func (n *network) links(p plan) []tapped {
	var all []tapped
	for i, m := range p.Machines {
		all = append(all, tapped{name: m.Name, ns: n.hosts[i], about: fmt.Sprintf("host %s at %s, profile %s", m.Name, m.Addr.Addr(), m.Profile)})
	}
	for i, s := range p.Sites {
		all = append(all,
			tapped{name: s.Name + "/" + lan, of: s.Name, ns: n.sites[i], iface: lan, about: fmt.Sprintf("network %s, profile %s: the inside of its router, %s", s.Name, s.Profile, s.LAN)},
			tapped{name: s.Name + "/" + wan, of: s.Name, ns: n.sites[i], iface: wan, about: fmt.Sprintf("network %s, profile %s: the outside of its router, %s", s.Name, s.Profile, s.Access.Addr)})
	}
	return all
}

// choose finds the links that a Capture names, each of them once.
func choose(all []tapped, names []string) ([]tapped, error) {
	var chosen []tapped
	for _, name := range names {
		is := func(l tapped) bool { return l.name == name }
		if !slices.ContainsFunc(all, is) {
			is = func(l tapped) bool { return l.of != "" && l.of == name }
		}
		found := slices.DeleteFunc(slices.Clone(all), func(l tapped) bool { return !is(l) })
		if len(found) == 0 {
			return nil, fmt.Errorf("the lab has no host %s, and no network of this name that has a router", name)
		}
		for _, l := range found {
			if !slices.ContainsFunc(chosen, func(c tapped) bool { return c.name == l.name }) {
				chosen = append(chosen, l)
			}
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("no link was named")
	}
	return chosen, nil
}

// serveCapture does what one client asks for.
func serveCapture(conn *net.UnixConn, all []tapped) error {
	from := bufio.NewReader(conn)
	line, err := from.ReadBytes('\n')
	if err != nil {
		return nil // it went before it had asked
	}
	var c Capture
	err = json.Unmarshal(line, &c)
	var taps []*sniffer
	if err == nil {
		taps, err = sniff(all, c)
	}
	answer := json.NewEncoder(conn)
	if err != nil {
		return answer.Encode(status{Err: err.Error()})
	}
	stopped := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, from) // its end, however it comes
		for _, t := range taps {
			_ = t.file.SetReadDeadline(time.Now())
		}
		close(stopped)
	}()
	if err := answer.Encode(status{Ready: true}); err != nil {
		<-stopped
	}
	return writeCapture(conn, taps, c.Snaplen)
}

func sniff(all []tapped, c Capture) ([]*sniffer, error) {
	links, err := choose(all, c.Links)
	if err != nil {
		return nil, err
	}
	var taps []*sniffer
	for _, l := range links {
		var s *sniffer
		if err = l.ns.do(func() (err error) { s, err = newSniffer(l, c.Snaplen); return err }); err != nil {
			break
		}
		taps = append(taps, s)
	}
	if err != nil {
		for _, t := range taps {
			t.file.Close()
		}
		return nil, err
	}
	return taps, nil
}

// captured is a frame on its way into the recording.
type captured struct {
	tap      int
	at       time.Time
	data     []byte // as much as is kept
	length   int
	outgoing bool
}

// captureQueue is how many frames may wait for a slow reader. What does not fit
// waits in the sockets' buffers, and what does not fit there is lost and counted.
const captureQueue = 256

// writeCapture records what the taps see until they are stopped.
func writeCapture(to io.Writer, taps []*sniffer, snaplen int) error {
	frames := make(chan captured, captureQueue)
	var reading sync.WaitGroup
	errs := make([]error, len(taps))
	began := time.Now()
	for i, t := range taps {
		reading.Go(func() { errs[i] = t.read(func(c captured) { c.tap = i; frames <- c }) })
	}
	go func() {
		reading.Wait()
		close(frames)
	}()
	w, err := newRecording(to, taps, snaplen)
	for f := range frames { // to the end, so that nobody waits for room
		if some := inOrder(f, frames); err == nil {
			err = w.write(some)
		}
	}
	if err == nil {
		err = w.finish(taps, began)
	}
	for _, t := range taps {
		errs = append(errs, t.file.Close())
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = nil // the reader has seen enough
	}
	return errors.Join(append(errs, err)...)
}

// recording is a pcapng file that is being written.
type recording struct {
	ng   *pcapgo.NgWriter
	seen []uint64 // frames, by tap
}

// remark stands in every recording, for whoever wonders.
const remark = "Recorded in a wce2e lab. As on any Linux machine, what was sent in segments (TSO, UDP_SEGMENT) " +
	"is seen before it is cut up, so packets may be longer than the link's MTU and have unfinished checksums."

func newRecording(to io.Writer, taps []*sniffer, snaplen int) (*recording, error) {
	r := &recording{seen: make([]uint64, len(taps))}
	for i, t := range taps {
		about := pcapgo.NgInterface{Name: t.link.name, Comment: t.link.about, LinkType: layers.LinkTypeEthernet, OS: "Linux", SnapLength: uint32(snaplen)}
		var err error
		if i == 0 {
			r.ng, err = pcapgo.NewNgWriterInterface(to, about, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
				Hardware: runtime.GOARCH, OS: "Linux", Application: "wce2e", Comment: remark}})
		} else {
			_, err = r.ng.AddInterface(about)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, r.ng.Flush()
}

// inOrder is a frame and those that are waiting behind it, by the time at which
// they were seen: what passes several links at once comes out of their sockets in
// any order.
func inOrder(first captured, waiting <-chan captured) []captured {
	some := []captured{first}
	for range len(waiting) {
		f, more := <-waiting
		if !more {
			break
		}
		some = append(some, f)
	}
	slices.SortStableFunc(some, func(a, b captured) int { return a.at.Compare(b.at) })
	return some
}

// write records frames so that whoever watches live sees them now.
func (r *recording) write(frames []captured) error {
	for _, f := range frames {
		if err := r.writeOne(f); err != nil {
			return err
		}
	}
	return r.ng.Flush()
}

func (r *recording) writeOne(f captured) error {
	r.seen[f.tap]++
	flags := &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if f.outgoing {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	return r.ng.WritePacketWithOptions(gopacket.CaptureInfo{Timestamp: f.at, CaptureLength: len(f.data), Length: f.length, InterfaceIndex: f.tap},
		f.data, pcapgo.NgPacketOptions{Flags: flags})
}

// finish counts: a recording that lacks frames says so.
func (r *recording) finish(taps []*sniffer, began time.Time) error {
	for i, t := range taps {
		err := r.ng.WriteInterfaceStats(i, pcapgo.NgInterfaceStatistics{
			LastUpdate: time.Now(), StartTime: began, EndTime: time.Now(), PacketsReceived: r.seen[i] + t.lost(), PacketsDropped: t.lost()})
		if err != nil {
			return err
		}
	}
	return r.ng.Flush()
}

// sniffer is a packet socket that sees what passes a link, in both directions.
type sniffer struct {
	link    tapped
	file    *os.File
	conn    syscall.RawConn
	keep    int // bytes of a frame
	buf     [maxFrame]byte
	control [128]byte
	dropped uint64
}

const loopbackIndex = 1 // of lo, in every network namespace

// newSniffer is for a thread inside the link's namespace.
func newSniffer(l tapped, snaplen int) (*sniffer, error) {
	at := &unix.SockaddrLinklayer{Protocol: uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)} // network byte order
	if l.iface != "" {
		var err error
		if at.Ifindex, err = interfaceIndex(l.iface); err != nil {
			return nil, fmt.Errorf("find %s of %s: %w", l.iface, l.name, err)
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	s := &sniffer{link: l, file: os.NewFile(uintptr(fd), "capture of "+l.name), keep: maxFrame}
	if snaplen > 0 {
		s.keep = min(snaplen, maxFrame)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF),
		unix.Bind(fd, at),
	)
	if err == nil {
		s.conn, err = s.file.SyscallConn()
	}
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("set up the packet socket of %s: %w", l.name, err)
	}
	return s, nil
}

// atOnce is how many frames are taken before anything else gets a look: a flood
// shall not keep a capture from its end.
const atOnce = 64

// lastFrames bounds what is taken out of the socket at a capture's end.
const lastFrames = 1 << 14

// read hands on every frame until the socket's deadline, and then those that are
// waiting in it.
func (s *sniffer) read(to func(captured)) error {
	for {
		err := s.conn.Read(func(fd uintptr) bool { return s.drain(int(fd), atOnce, to) > 0 })
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return s.conn.Control(func(fd uintptr) { s.drain(int(fd), lastFrames, to) })
		}
		if err != nil {
			return fmt.Errorf("capture %s: %w", s.link.name, err)
		}
	}
}

// drain hands on what waits in the socket, at most so many frames, and counts them.
func (s *sniffer) drain(fd, most int, to func(captured)) (n int) {
	for n < most {
		size, control, _, from, err := unix.Recvmsg(fd, s.buf[:s.keep], s.control[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) { // a link that is down comes up again
			continue
		}
		if err != nil {
			return n
		}
		n++
		where, _ := from.(*unix.SockaddrLinklayer)
		if where == nil || s.link.iface == "" && where.Ifindex == loopbackIndex {
			continue
		}
		to(captured{at: stamp(s.control[:control]), data: slices.Clone(s.buf[:min(size, s.keep)]), length: size, outgoing: where.Pkttype == unix.PACKET_OUTGOING})
	}
	return n
}

// stamp is when the kernel saw a frame, to the nanosecond.
func stamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				return time.Unix((*unix.Timespec)(unsafe.Pointer(unsafe.SliceData(m.Data))).Unix())
			}
		}
	}
	return time.Now()
}

// lost counts the frames that did not fit into the socket's buffer.
func (s *sniffer) lost() uint64 {
	_ = s.conn.Control(func(fd uintptr) {
		stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS) // which counts anew each time
		if err == nil {
			s.dropped += uint64(stats.Drops)
		}
	})
	return s.dropped
}
