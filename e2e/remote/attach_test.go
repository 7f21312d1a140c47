package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestACommandHasThePersonsStreams(t *testing.T) {
	_, cfg := newServer(t)
	var out, said bytes.Buffer
	res, err := Attach(t.Context(), "box", cfg, Command{Argv: []string{"sh", "-c", "cat; echo it\\'s >&2; exit 3"},
		Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &said})
	if err != nil || res.Code != 3 || res.Signal != "" || out.String() != "hello" || said.String() != "it's\n" {
		t.Errorf("%+v %v, stdout %q, stderr %q", res, err, &out, &said)
	}
	if res, err := Attach(t.Context(), "box", cfg, Command{Argv: []string{"sh", "-c", "kill -KILL $$"}}); err != nil || res.Code == 0 {
		t.Errorf("a command that was killed: %+v %v", res, err)
	}
}

func TestWordsReachACommandAsTheyAre(t *testing.T) {
	_, cfg := newServer(t)
	words := []string{"a b", "it's", `"`, "", "$HOME", "!x", "naïve", "a\nb", `\`}
	var out bytes.Buffer
	_, err := Attach(t.Context(), "box", cfg, Command{Argv: append([]string{"printf", `%s\0`}, words...), Stdout: &out})
	if want := strings.Join(words, "\x00") + "\x00"; err != nil || out.String() != want {
		t.Errorf("%v: %q, want %q", err, &out, want)
	}
}

func TestACommandDoesNotWaitForTheNextKey(t *testing.T) {
	_, cfg := newServer(t)
	keyboard, _ := io.Pipe() // nobody ever types
	if _, err := Attach(t.Context(), "box", cfg, Command{Argv: []string{"true"}, Stdin: keyboard}); err != nil {
		t.Error(err)
	}
}

func TestACommandThatIsGivenUpEndsAtOnce(t *testing.T) {
	_, cfg := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &awaited{word: "begun", seen: cancel}
	began := time.Now()
	_, err := Attach(ctx, "box", cfg, Command{Argv: []string{"sh", "-c", "echo begun; exec sleep 60"}, Stdout: out})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "run sh on box") || time.Since(began) > 30*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// awaited calls seen when a word has been printed.
type awaited struct {
	word string
	seen func()
}

func (a *awaited) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(a.word)) {
		a.seen()
	}
	return len(b), nil
}

func TestAMachineThatIsNotThereCannotBeAttachedTo(t *testing.T) {
	s, cfg := newServer(t)
	s.stop()
	if _, err := Attach(t.Context(), "box", cfg, Command{Argv: []string{"true"}}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}
