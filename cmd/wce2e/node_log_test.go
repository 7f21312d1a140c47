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

func TestAgesAreReadable(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		7 * time.Second: "7s", time.Minute: "1m", 61 * time.Second: "1m1s", 10 * time.Minute: "10m", time.Hour: "1h", time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m", 0: "0s",
	} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("%s is written as %s", d, got)
		}
	}
}
