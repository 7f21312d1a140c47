package evidence

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkScan: a node's log at debug level, per byte.
func BenchmarkScan(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, `time=2026-11-22T14:20:31.%06dZ level=INFO msg="dial ended" peer=12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf addr=/ip4/45.1.2.3/tcp/443/tls/ws outcome=failed failure=connection_refused err="dial \"tcp\": refused"`+"\n", i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if leaks, err := scan("x", strings.NewReader(text.String()), secrets); err != nil || len(leaks) > 0 {
			b.Fatal(leaks, err)
		}
	}
}

// BenchmarkAppend: one event, on the disk.
func BenchmarkAppend(b *testing.B) {
	w := newWriter(b)
	for b.Loop() {
		if _, err := w.Append(NodeSaid, "tensor02", json.RawMessage(nodeLine)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen: a trace of 10,000 events.
func BenchmarkOpen(b *testing.B) {
	w := newWriter(b)
	items := make([]Item, 10_000)
	for i := range items {
		items[i] = Item{NodeSaid, "tensor02", json.RawMessage(nodeLine)}
	}
	_, err := w.AppendAll(items...)
	must(b, err)
	b.SetBytes(w.size)
	for b.Loop() {
		whole(b, open(b, w.Dir()))
	}
}
