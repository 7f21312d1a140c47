package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func TestAFifoGivesOutWhatWentIn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var f fifo
	var want []byte // in it now
	next := byte(0)
	for range 20_000 {
		switch rng.IntN(3) {
		case 0:
			p := make([]byte, rng.IntN(3*chunkSize))
			for i := range p {
				p[i] = next
				next += 7
			}
			if len(want)+len(p) < 8*chunkSize {
				f.push(p)
				want = append(want, p...)
			}
		case 1:
			n := rng.IntN(len(want) + 1)
			f.pop(n)
			want = want[n:]
		default:
			i := rng.IntN(len(want) + 1)
			got := make([]byte, rng.IntN(2*chunkSize))
			got = got[:f.copyAt(got, i)]
			if !bytes.Equal(got, want[i:i+len(got)]) {
				t.Fatal("other bytes came out than went in")
			}
		}
		if f.size != len(want) || f.size == 0 && f.chunks != nil {
			t.Fatalf("size %d of %d, %d chunks", f.size, len(want), len(f.chunks))
		}
	}
}

func TestBytesThatAreThereAlreadyAreIgnored(t *testing.T) {
	var w window
	for _, p := range []struct {
		off   uint64
		bytes string
	}{{0, "abc"}, {0, "abc"}, {1, "bcd"}, {4, ""}, {2, "cdef"}} {
		if _, err := w.put(t.Context(), p.off, []byte(p.bytes)); err != nil {
			t.Fatal(err)
		}
	}
	w.finish()
	got := make([]byte, 10)
	n, _ := w.read(got)
	if string(got[:n]) != "abcdef" {
		t.Errorf("got %q", got[:n])
	}
	if _, err := w.read(got); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestBytesBeforeTheirTurnWait(t *testing.T) {
	var w window
	done := make(chan error, 1)
	go func() {
		_, err := w.put(context.Background(), 3, []byte("def"))
		done <- err
	}()
	if _, err := w.put(t.Context(), 0, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if w.reached() != 6 {
		t.Errorf("reached %d", w.reached())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tail, err := w.put(ctx, 100, []byte("never")); tail != 6 || !errors.Is(err, context.Canceled) {
		t.Errorf("a gap that is never filled: %d, %v", tail, err)
	}
}

func TestAFullWindowTakesNoMore(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		w    *window
		want int
	}{
		"alone":                        {&window{}, windowSize},
		"on a server short of memory":  {&window{memory: new(memory)}, leanWindow},
		"on a server with much memory": {&window{memory: new(memory)}, windowSize},
	} {
		if c.want == leanWindow {
			c.w.memory.used.Store(maxBuffered + 1)
		}
		tail, err := c.w.put(t.Context(), 0, make([]byte, c.want))
		if err != nil || tail != uint64(c.want) {
			t.Fatalf("%s: %d, %v", name, tail, err)
		}
		tail, err = c.w.put(over, tail, make([]byte, 1))
		if err == nil || tail != uint64(c.want) {
			t.Errorf("%s: a full window took a byte more: %d, %v", name, tail, err)
		}
	}
}

func TestOffsetsOutsideOfWhatIsKeptAreErrors(t *testing.T) {
	var w window
	if _, err := w.put(t.Context(), 0, []byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	if err := w.release(4); err != nil {
		t.Fatal(err)
	}
	if err := w.release(2); err != nil {
		t.Errorf("an old acknowledgement: %v", err)
	}
	if err := w.release(7); !errors.Is(err, errOffset) {
		t.Errorf("an acknowledgement of what was never sent: %v", err)
	}
	if err := w.seek(3); !errors.Is(err, errOffset) {
		t.Errorf("asking for what was acknowledged: %v", err)
	}
	p := make([]byte, 10)
	if n, err := w.get(t.Context(), 4, p); string(p[:n]) != "ef" || err != nil {
		t.Errorf("%q, %v", p[:n], err)
	}
}
