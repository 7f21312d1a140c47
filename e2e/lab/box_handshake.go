//go:build linux

package lab

// How a libp2p connection over TCP begins. The listener's first line may come
// before the dialler's.
//
//	dialler                                       listener
//	19 /multistream/1.0.0  11 /tls/1.0.0   -->
//	                                       <--    19 /multistream/1.0.0  11 /tls/1.0.0
//	turn 1: ClientHello, or Noise's 34 bytes -->
//	                                       <--    turn 2: ServerHello ..., or 218 bytes
//	turn 3: Finished, or 216 bytes, perhaps
//	        with data behind them          -->
//	                                       <--    turn 4: data
//
// Measured with go-libp2p v0.51: 28 or 32 bytes of lines, as it proposes Noise or
// TLS, then 34, 218 and 216 bytes of Noise, or a hello of 1481 bytes.

// handshakeDone kills flows that negotiate as libp2p does, once their handshake
// is over and the listener's first encrypted data have passed.
type handshakeDone struct {
	lines    [2]lines
	turns    int
	speaking side
}

func (h *handshakeDone) look(from side, data []byte) verdict {
	const firstData = 4 // the turn
	if h.turns == firstData {
		return killed
	}
	if l := &h.lines[from]; l.begins() && data[0] != multistreamHeader[0] {
		return harmless
	}
	if len(h.lines[from].after(data)) > 0 && (h.turns == 0 || h.speaking != from) {
		h.turns++
		h.speaking = from
	}
	return undecided
}

// lines are what one side says until both agree on a protocol: a length, a text
// that begins with / or is "na", and a line break.
type lines struct {
	read int
	rest []byte // of a line that has begun
	over bool
}

func (l *lines) begins() bool { return l.read == 0 }

// after is what of data comes after the lines.
func (l *lines) after(data []byte) []byte {
	l.read += len(data)
	if l.over {
		return data
	}
	const longest = 127 // whose length is one byte
	l.rest = append(l.rest, data...)
	for len(l.rest) >= 2 {
		size := int(l.rest[0])
		if size == 0 || size > longest || l.rest[1] != '/' && l.rest[1] != 'n' {
			l.over, data, l.rest = true, l.rest, nil
			return data
		}
		if len(l.rest) <= size {
			break
		}
		l.rest = l.rest[1+size:]
	}
	return nil
}

// handshakeLengths swallows flows whose first messages are as long as libp2p's,
// whatever they say: lines of 28 or 32 bytes from both sides, and then 34 bytes of
// Noise before the other side speaks, or a TLS hello.
type handshakeLengths struct {
	said     [2]int
	agreed   int  // the length of the lines, when both sides have said them
	speaking side // after that
	hello    []byte
}

func (h *handshakeLengths) look(from side, data []byte) verdict {
	const linesNoise, linesTLS, noiseHello = 28, 32, 34
	if h.agreed == 0 {
		h.said[from] += len(data)
		switch n := h.said[from]; {
		case n > linesTLS:
			return harmless
		case n == h.said[from.other()] && (n == linesNoise || n == linesTLS):
			h.agreed = n
		}
		return undecided
	}
	switch {
	case len(h.hello) == 0:
		h.speaking = from
	case h.speaking != from && len(h.hello) == noiseHello:
		return vanishes
	case h.speaking != from:
		return harmless
	}
	h.hello = append(h.hello, data...)
	switch {
	case len(h.hello) >= 2 && h.hello[0] == recordHandshake && h.hello[1] == tlsMajor:
		return vanishes
	case len(h.hello) > noiseHello:
		return harmless
	}
	return undecided
}

// The first bytes of a TLS record with a part of the handshake (RFC 8446, section 5.1).
const (
	recordHandshake = 22
	tlsMajor        = 3
)
