package tunnel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
)

// Path is below which all URLs of the protocol are.
const Path = "/libp2p-tunnel/1/"

// magic begins every answer, to tell it from a gateway's page.
const magic = "LPT1"

// errNoTunnel is an answer with the right status that is none of the protocol's.
var errNoTunnel = errors.New("tunnel: the answer is not of this protocol")

// validID reports whether s can name a session.
func validID(s string) bool {
	var id [16]byte
	if len(s) != hex.EncodedLen(len(id)) {
		return false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return err == nil && hex.EncodeToString(id[:]) == s
}

// position is the query of an up or a down.
type position struct {
	off, ack uint64
	fin      bool
	poll     bool
}

func (p position) query(n uint64) string {
	q := url.Values{"off": {strconv.FormatUint(p.off, 10)}, "ack": {strconv.FormatUint(p.ack, 10)}, "n": {strconv.FormatUint(n, 10)}}
	if p.fin {
		q.Set("fin", "1")
	}
	if p.poll {
		q.Set("mode", "poll")
	}
	return q.Encode()
}

// maxOffset leaves room for adding lengths to offsets.
const maxOffset = 1 << 62

func parsePosition(q url.Values) (p position, err error) {
	for name, to := range map[string]*uint64{"off": &p.off, "ack": &p.ack} {
		if !q.Has(name) {
			continue
		}
		if *to, err = strconv.ParseUint(q.Get(name), 10, 64); err != nil || *to > maxOffset {
			return position{}, fmt.Errorf("tunnel: %s is not an offset", name)
		}
	}
	p.fin = q.Get("fin") == "1"
	p.poll = q.Get("mode") == "poll"
	return p, nil
}

// receipt is the answer to open and up.
type receipt struct {
	closed bool
	ack    uint64
}

const receiptSize = len(magic) + 1 + 8

func (r receipt) encode() []byte {
	b := append(make([]byte, 0, receiptSize), magic...)
	state := byte(0)
	if r.closed {
		state = 1
	}
	return binary.BigEndian.AppendUint64(append(b, state), r.ack)
}

func readReceipt(from io.Reader) (receipt, error) {
	var b [receiptSize]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return receipt{}, fmt.Errorf("read receipt: %w", err)
	}
	state, ack := b[len(magic)], binary.BigEndian.Uint64(b[len(magic)+1:])
	if string(b[:len(magic)]) != magic || state > 1 || ack > maxOffset {
		return receipt{}, errNoTunnel
	}
	return receipt{closed: state == 1, ack: ack}, nil
}

// The kinds of frames in the answer to a down.
const (
	kindData = 'D'
	kindOver = 'E'
	kindFin  = 'F'
)

const frameHeader = 1 + 4

func putFrameHeader(b []byte, kind byte, size int) {
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(size))
}

// frameReader reads the answer to a down. It is the only place where a client
// parses what came from outside, but for receipts.
type frameReader struct {
	from *bufio.Reader
	left int // of the current 'D'
}

// newFrameReader reads the magic.
func newFrameReader(from io.Reader) (*frameReader, error) {
	r := &frameReader{from: bufio.NewReader(from)}
	var b [len(magic)]byte
	if _, err := io.ReadFull(r.from, b[:]); err != nil {
		return nil, err
	}
	if string(b[:]) != magic {
		return nil, errNoTunnel
	}
	return r, nil
}

// These end a well-formed answer. Everything else, io.EOF included, is an answer
// that was cut, or nonsense.
var (
	errOver = errors.New("tunnel: the answer is over") // ask again
	errFin  = errors.New("tunnel: the stream is over")
)

// Read returns the bytes of 'D' frames as they come.
func (r *frameReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n, err := r.from.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func (r *frameReader) next() error {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r.from, h[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(h[1:])
	switch {
	case h[0] == kindData && size > 0 && size <= maxFrame:
		r.left = int(size)
		return nil
	case h[0] == kindOver && size == 0:
		return errOver
	case h[0] == kindFin && size == 0:
		return errFin
	}
	return errNoTunnel
}

// newBody is nil for no bytes, so that a request says that it has none.
func newBody(b []byte) io.Reader {
	if len(b) == 0 {
		return nil
	}
	return bytes.NewReader(b)
}
