package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTheLogIsWrittenInOrderAndWholeAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	w := newSteadyWriter(&out)
	log := slog.New(slog.NewTextHandler(w, nil))
	const lines = logQueue / 2
	for i := range lines {
		log.Info("line", "n", i)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != lines {
		t.Fatalf("%d lines", len(got))
	}
	for i, line := range got {
		if !strings.HasSuffix(line, fmt.Sprintf("msg=line n=%d", i)) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestAStderrThatNobodyReadsDoesNotStopTheNode(t *testing.T) {
	r, stderr := io.Pipe()
	w := newSteadyWriter(stderr)
	log := slog.New(slog.NewTextHandler(w, nil))
	const lines = 2 * logQueue
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			log.Info("line", "n", i)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the log waits for its reader")
	}
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(&got, r) }()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	<-read
	if n := strings.Count(got.String(), "msg=line"); n < logQueue || n > logQueue+1 {
		t.Errorf("%d lines were kept", n)
	}
	if !strings.Contains(got.String(), "dropped=") {
		t.Error("it does not say that lines were dropped")
	}
}

func TestTheEndOfTheNodeDoesNotWaitForALogReader(t *testing.T) {
	_, stderr := io.Pipe()
	w := newSteadyWriter(stderr)
	fmt.Fprintln(w, "a line")
	began := time.Now()
	if err := w.Close(); err == nil {
		t.Error("nothing is said of the lost line")
	}
	if took := time.Since(began); took > 4*logFlush {
		t.Errorf("it took %s", took)
	}
}
