package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// fleet is a lab whose hosts a test steers itself, over SSH, one by one.
type fleet struct {
	testing.TB
	lab   *lab.Lab
	suite string

	mu    sync.Mutex // guards the field below
	ships map[string]*ship
}

// ship is one of its hosts, with the release build on board.
type ship struct {
	fleet *fleet
	name  string
	remote.Remote
}

const (
	fleetQuick = 20 * time.Second // for a command that waits for nobody
	fleetBin   = "wce2e"          // in the home of every host
)

func newFleet(t testing.TB, l *inventory.Lab) *fleet {
	t.Helper()
	suite := needLab(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	up, err := lab.Up(ctx, lab.Config{Lab: l, Binary: suite})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return &fleet{TB: t, lab: up, suite: suite, ships: map[string]*ship{}}
}

// ship boards a host: a connection, and the binary.
func (f *fleet) ship(name string) *ship {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.ships[name]; s != nil {
		return s
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := remote.Dial(ctx, name, remote.Config{SSHConfig: f.lab.SSHConfig})
	if err != nil {
		f.Fatalf("%s: %v", name, err)
	}
	f.Cleanup(func() { _ = r.Close() })
	s := &ship{fleet: f, name: name, Remote: r}
	s.bring(ctx, f.suite, fleetBin)
	f.ships[name] = s
	return s
}

// bring uploads a program.
func (s *ship) bring(ctx context.Context, local, as string) {
	s.fleet.Helper()
	b, err := os.Open(local)
	if err != nil {
		s.fleet.Fatal(err)
	}
	defer b.Close()
	if err := s.Upload(ctx, path.Join(s.Home(), as), 0o755, b); err != nil {
		s.fleet.Fatalf("%s: %v", s.name, err)
	}
}

// try runs a program of the host's home.
func (s *ship) try(within time.Duration, argv ...string) (remote.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return s.Exec(ctx, append([]string{path.Join(s.Home(), argv[0])}, argv[1:]...), nil)
}

// daemon is a node on a host, in a directory of its own.
type daemon struct {
	ship *ship
	dir  string
	args []string
	stop func() // ends it, and waits for that

	leaving atomic.Bool   // it may end
	ended   chan struct{} // closed when it has
}

// start runs a node until the test ends, or until stop.
func (s *ship) start(dir string, args ...string) *daemon {
	s.fleet.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{ship: s, dir: path.Join(s.Home(), dir), args: args, ended: make(chan struct{})}
	argv := append([]string{path.Join(s.Home(), fleetBin), "node", "run", "--dir", d.dir, "--name", s.name}, args...)
	go func() {
		defer close(d.ended)
		res, err := s.Exec(ctx, argv, nil)
		if ctx.Err() == nil && !d.leaving.Load() {
			s.fleet.Errorf("%s: the node ended by itself: %v, exit %d\n%s", s.name, err, res.Code, res.Stderr)
		}
	}()
	d.stop = func() { cancel(); <-d.ended }
	s.fleet.Cleanup(d.stop)
	return d
}

// terminate ends the node in order.
func (d *daemon) terminate() {
	d.ship.fleet.Helper()
	st, err := d.status()
	if err != nil {
		d.ship.fleet.Fatal(err)
	}
	d.leaving.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	res, err := d.ship.Exec(ctx, []string{"kill", "-TERM", strconv.Itoa(st.PID)}, nil)
	if err != nil || res.Code != 0 {
		d.ship.fleet.Fatalf("%s: end the node: %v: %s", d.ship.name, err, res.Stderr)
	}
	<-d.ended
}

// status asks the node how it is.
func (d *daemon) status() (wire.Status, error) {
	var st wire.Status
	res, err := d.ship.try(fleetQuick, fleetBin, "node", "status", "--dir", d.dir, "--json")
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("exit %d: %s", res.Code, res.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(res.Stdout, &st)
	}
	return st, err
}

// await waits for a status that fits.
func (d *daemon) await(what string, within time.Duration, fits func(wire.Status) bool) (wire.Status, error) {
	var last wire.Status
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var st wire.Status
		if st, err = d.status(); err == nil {
			last = st
			if fits(st) {
				return st, nil
			}
		}
	}
	if err != nil {
		return last, fmt.Errorf("%s: within %s there was no %s: %w", d.ship.name, within, what, err)
	}
	return last, fmt.Errorf("%s: within %s there was no %s; it tried:\n%s", d.ship.name, within, what, attempts(last))
}

// reserved fits a node that others can reach through a relay.
func reserved(st wire.Status) bool { return len(st.CircuitAddrs) > 0 }

func attempts(st wire.Status) string {
	var b strings.Builder
	for _, a := range st.Tried {
		fmt.Fprintf(&b, "  %s %s %s after %.0f ms\n", a.Addr, a.Outcome, a.Failure, a.MS)
	}
	return b.String()
}

// events are those of the node so far.
func (d *daemon) events() []wire.Event {
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	b, err := d.ship.ReadFrom(ctx, path.Join(d.dir, "events.jsonl"), 0, 64<<20)
	if err != nil {
		d.ship.fleet.Errorf("%s: %v", d.ship.name, err)
	}
	var out []wire.Event
	for line := range bytes.Lines(b) {
		var ev wire.Event
		if json.Unmarshal(line, &ev) == nil { // the last one may be half written
			out = append(out, ev)
		}
	}
	return out
}

// of are its events of one kind.
func (d *daemon) of(kind wire.Kind) []wire.Event {
	return slices.DeleteFunc(d.events(), func(e wire.Event) bool { return e.Kind != kind })
}

// identity is the node's peer ID, made now if there was none.
func (s *ship) identity(dir string) string {
	s.fleet.Helper()
	res, err := s.try(fleetQuick, fleetBin, "node", "id", "--dir", path.Join(s.Home(), dir))
	if err != nil || res.Code != 0 {
		s.fleet.Fatalf("%s: node id: %v, %s", s.name, err, res.Stderr)
	}
	return strings.TrimSpace(string(res.Stdout))
}

// relay starts a relay and gives its public addresses, with its peer ID.
func (s *ship) relay(dir string, args ...string) (*daemon, []string) {
	s.fleet.Helper()
	d := s.start(dir, append([]string{"--relay", "--no-bootstrap"}, args...)...)
	st, err := d.await("address to use it by", time.Minute, func(st wire.Status) bool { return len(st.Addrs) > 0 })
	if err != nil {
		s.fleet.Fatal(err)
	}
	return d, st.Addrs
}

// job has the node send a job with a fresh nonce to a donor, through a circuit,
// and is nil when the answer is the one that was computed without WebAssembly.
func (d *daemon) job(to string) error {
	fixture, err := wasmfixtures.Get("sha256")
	if err != nil {
		return err
	}
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails
	task, err := fixture.Task(nonce)
	if err != nil {
		return err
	}
	result, err := d.dispatch(to, task.Module, task.Input, time.Minute)
	switch {
	case err != nil:
		return err
	case result.Status != string(wire.Succeeded) || result.Path != wire.Relayed:
		return fmt.Errorf("job to %s: %s by the path %q: %s", to, result.Status, result.Path, result.Error)
	case !bytes.Equal(result.Output, task.Expected):
		return fmt.Errorf("job to %s: the answer is %x, not %x", to, result.Output, task.Expected)
	}
	return nil
}

// dispatch sends one module through a circuit.
func (d *daemon) dispatch(to string, module, input []byte, timeout time.Duration, args ...string) (wire.DispatchResult, error) {
	var result wire.DispatchResult
	name := rand.Text()
	wasm, stdin := path.Join(d.dir, name+".wasm"), path.Join(d.dir, name+".in")
	ctx, cancel := context.WithTimeout(context.Background(), timeout+fleetQuick)
	defer cancel()
	for file, content := range map[string][]byte{wasm: module, stdin: input} {
		if err := d.ship.Upload(ctx, file, 0o600, bytes.NewReader(content)); err != nil {
			return result, err
		}
	}
	argv := append([]string{path.Join(d.ship.Home(), fleetBin), "node", "dispatch", "--dir", d.dir, "--to", to, "--wasm", wasm,
		"--input", stdin, "--path", "relayed", "--timeout", timeout.String(), "--json"}, args...)
	res, err := d.ship.Exec(ctx, argv, nil)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(res.Stdout, &result); err != nil {
		return result, fmt.Errorf("dispatch: exit %d: %s", res.Code, res.Stderr)
	}
	return result, nil
}
