//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// bystanderPort is where bystanders listen, TCP and UDP.
	bystanderPort = 4001
	// bystanderPatience is how long a bystander may take to listen: its first
	// start makes keys, on a machine that may be busy with many labs.
	bystanderPatience = 30 * time.Second
	bystanderPoll     = 10 * time.Millisecond
	tailBytes         = 2 << 10 // of its log, told when it ends
)

// standBy runs a public libp2p node for as long as the host lives. Nodes need
// such strangers to learn how they are seen from outside.
func (o hostOrders) standBy(r *reaper, log *slog.Logger) error {
	id, err := output(r, bystanderBinary, "node", "id", "--dir", home)
	if err != nil {
		return fmt.Errorf("ask for the bystander's peer ID: %w", err)
	}
	if err := say(status{Peer: strings.TrimSpace(id)}); err != nil {
		return err
	}
	logFile, err := os.Create("/tmp/node.log")
	if err != nil {
		return err
	}
	defer logFile.Close()
	_, ended, err := r.start(bystanderBinary, []string{bystanderBinary, "node", "run", "--dir", home, "--name", o.Machine.Name, "--no-bootstrap", "--no-relay",
		"--listen", fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", bystanderPort),
		"--listen", fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", bystanderPort)},
		&os.ProcAttr{Dir: home, Env: environment(), Files: []*os.File{nil, logFile, logFile}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("start the bystander: %w", err)
	}
	if err := awaitListening(ended); err != nil {
		return fmt.Errorf("%w; its log ends: %s", err, tail(logFile.Name()))
	}
	if err := say(status{Ready: true}); err != nil {
		return err
	}
	s := <-ended
	log.Warn("the bystander ended", "exit", s.ExitStatus(), "signal", s.Signal().String(), "tail", tail(logFile.Name()))
	select {}
}

// awaitListening waits until the bystander's TCP port is open. It looks instead
// of connecting, which the node would log.
func awaitListening(ended <-chan syscall.WaitStatus) error {
	deadline := time.After(bystanderPatience)
	for {
		select {
		case s := <-ended:
			return fmt.Errorf("the bystander ended with status %d before it listened", s.ExitStatus())
		case <-deadline:
			return fmt.Errorf("the bystander does not listen on TCP port %d after %s", bystanderPort, bystanderPatience)
		case <-time.After(bystanderPoll):
			if listening("/proc/net/tcp", bystanderPort) || listening("/proc/net/tcp6", bystanderPort) {
				return nil
			}
		}
	}
}

// listening looks for a socket in state LISTEN (0A) in a file of proc(5)'s
// /proc/net/tcp format.
func listening(file string, port int) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], local) && f[3] == "0A" {
			return true
		}
	}
	return false
}

// output runs a program to its end and returns what it printed.
func output(r *reaper, argv ...string) (string, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer pr.Close()
	_, ended, err := r.start(argv[0], argv, &os.ProcAttr{Dir: home, Env: environment(), Files: []*os.File{nil, pw, os.Stderr}})
	pw.Close()
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(pr)
	if err != nil {
		return "", err
	}
	if s := <-ended; s.ExitStatus() != 0 {
		return "", fmt.Errorf("%s: exit status %d", strings.Join(argv, " "), s.ExitStatus())
	}
	return string(out), nil
}

func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(text) > tailBytes {
		text = text[len(text)-tailBytes:]
	}
	return string(bytes.TrimSpace(text))
}
