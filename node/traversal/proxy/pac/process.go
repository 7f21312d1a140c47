package pac

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// name is what the evaluating process is called: in the list of processes, and
// by itself, since it is how it knows what it is for.
const name = "wce2e-pac"

// A program that uses this package becomes, when started under that name,
// nothing but the evaluator: no file has to be shipped beside it, and a test is
// such a program as well. Nothing runs yet that could need an orderly end.
func init() {
	if len(os.Args) == 1 && os.Args[0] == name {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// question is the first line to the process.
type question struct {
	Script  string    `json:"script"`
	URL     string    `json:"url"`
	Host    string    `json:"host"`
	Address string    `json:"address"`
	Now     time.Time `json:"now"`
}

// reply is each line back: a name whose address the script wants, which the next
// line to the process gives, or the end.
type reply struct {
	Resolve string `json:"resolve,omitempty"`
	Answer  string `json:"answer,omitempty"`
	Error   string `json:"error,omitempty"`
	Ended   bool   `json:"ended,omitempty"`
}

// maxReplies bounds what we read from the process, in bytes.
const maxReplies = 256 << 10

// ask runs the script in a process of its own and answers what it asks.
func (s *Script) ask(ctx context.Context, url, host string, of Host) (string, error) {
	self, err := executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self)
	// GOTRACEBACK: it may crash, and nobody wants to read how.
	cmd.Args, cmd.Env = []string{name}, []string{"GOTRACEBACK=none"}
	cmd.Dir = os.TempDir()
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	answer, err := s.converse(ctx, url, host, of, in, io.LimitReader(out, maxReplies))
	_ = cmd.Process.Kill() // it has nothing left to say
	_ = cmd.Wait()
	if ctx.Err() != nil {
		err = errors.Join(fmt.Errorf("it took too long: %w", ctx.Err()), err)
	}
	return answer, err
}

func (s *Script) converse(ctx context.Context, url, host string, of Host, in io.Writer, out io.Reader) (string, error) {
	q := question{Script: s.source, URL: url, Host: host, Address: "127.0.0.1", Now: of.Now}
	if of.Address.IsValid() {
		q.Address = of.Address.String()
	}
	if q.Now.IsZero() {
		q.Now = time.Now()
	}
	to, from := json.NewEncoder(in), json.NewDecoder(out)
	if err := to.Encode(q); err != nil {
		return "", fmt.Errorf("hand the script over: %w", err)
	}
	for range maxLookups + 1 {
		var r reply
		switch err := from.Decode(&r); {
		case err != nil:
			return "", fmt.Errorf("it crashed, or took too much: %w", err)
		case r.Error != "":
			return "", errors.New(r.Error)
		case r.Ended:
			return r.Answer, nil
		}
		if err := to.Encode(of.resolve(ctx, r.Resolve)); err != nil {
			return "", fmt.Errorf("answer for the name %.100q: %w", r.Resolve, err)
		}
	}
	return "", fmt.Errorf("it asked for more than %d names", maxLookups)
}

// resolve is the first IPv4 address of a name, as the format wants it; empty
// when there is none.
func (h Host) resolve(ctx context.Context, name string) string {
	if h.Lookup == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	addrs, err := h.Lookup(ctx, name)
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			return a.String()
		}
	}
	return ""
}

// executable is our own program, also after a newer one has taken its place.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// isIPv4 tells an address from a name.
func isIPv4(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is4()
}
