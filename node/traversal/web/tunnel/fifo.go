package tunnel

import "sync"

// chunkSize is the unit in which windows take memory. An empty window takes none.
const chunkSize = 16 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// fifo is a queue of bytes in chunks, all of them full except at the ends. The
// zero fifo is empty.
type fifo struct {
	chunks []*[chunkSize]byte
	start  int // of the first byte, in the first chunk
	size   int
}

// push appends all of p.
func (f *fifo) push(p []byte) {
	for len(p) > 0 {
		end := f.start + f.size
		if end == len(f.chunks)*chunkSize {
			f.chunks = append(f.chunks, chunks.Get().(*[chunkSize]byte))
		}
		n := copy(f.chunks[end/chunkSize][end%chunkSize:], p)
		p = p[n:]
		f.size += n
	}
}

// copyAt copies from the i-th byte on into p, and leaves the bytes in place.
func (f *fifo) copyAt(p []byte, i int) int {
	p = p[:min(len(p), f.size-i)]
	for n := 0; n < len(p); {
		at := f.start + i + n
		n += copy(p[n:], f.chunks[at/chunkSize][at%chunkSize:])
	}
	return len(p)
}

// pop drops the first n bytes.
func (f *fifo) pop(n int) {
	f.start += n
	f.size -= n
	for len(f.chunks) > 0 && (f.start >= chunkSize || f.size == 0) {
		chunks.Put(f.chunks[0])
		f.chunks[0] = nil
		f.chunks = f.chunks[1:]
		f.start -= chunkSize
	}
	if f.size == 0 {
		*f = fifo{}
	}
}
