//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNothingIsLeftAfterClose(t *testing.T) {
	l := bring(t, Config{Lab: small()})
	must(t, l.login(t, "tensor02"), "sleep 1000 >/dev/null 2>&1 </dev/null & setsid sleep 1001 >/dev/null 2>&1 </dev/null & true")
	traces := tracesOf(l.process.Pid)
	if len(traces.pids) < 7 || len(traces.spaces) < 5 {
		t.Fatalf("%d processes in %d network namespaces: the test sees too little of the lab", len(traces.pids), len(traces.spaces))
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if left := traces.left(); left != "" {
		t.Errorf("left after Close:\n%s", left)
	}
	if _, err := os.Stat(l.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	select {
	case <-l.Done():
	default:
		t.Error("Done is open after Close")
	}
}

func TestNothingIsLeftAfterTheSuiteIsKilled(t *testing.T) {
	bring(t, Config{Lab: small()}) // skips where there can be no lab
	dir := filepath.Join(t.TempDir(), "l")
	suite := exec.Command(ownBinary(t), "suite", dir)
	suite.Stderr = t.Output()
	out, err := suite.StdoutPipe()
	if err := errors.Join(err, suite.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the suite did not raise a lab: %v", err)
	}
	traces := tracesOf(suite.Process.Pid)
	if len(traces.pids) < 6 {
		t.Fatalf("%d processes: the test sees too little of the lab", len(traces.pids))
	}
	if err := suite.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	suite.Wait()
	eventually(t, "all processes and the folder gone", func() (bool, string) {
		left := traces.left()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			left += fmt.Sprintf("%s: %v\n", dir, err)
		}
		return left == "", left
	})
}

func TestNothingIsLeftWhenBuildingIsCancelled(t *testing.T) {
	bring(t, Config{Lab: small()}) // skips where there can be no lab
	before := map[int]bool{}
	for _, p := range processes() {
		before[p.pid] = true
	}
	cancelled := 0
	for after := time.Duration(0); after < 60*time.Millisecond; after += 7 * time.Millisecond {
		dir := filepath.Join(t.TempDir(), "l")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(after, cancel)
		l, err := Up(ctx, Config{Lab: small(), Dir: dir})
		cancel()
		if err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cancelled++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %s: %v", after, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cancelled after %s, the folder is still there: %v", after, err)
		}
	}
	if cancelled == 0 {
		t.Error("no cancel came in time: the test has tried nothing")
	}
	for _, p := range processes() {
		if p.parent == os.Getpid() && !before[p.pid] {
			t.Errorf("a process is left: %+v", p)
		}
	}
}

func TestALabOutlivesTheContextItWasBuiltUnder(t *testing.T) {
	bring(t, Config{Lab: pair(0)}) // skips where there can be no lab
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Up(ctx, Config{Lab: pair(0)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cancel()
	must(t, l.login(t, "a"), "true")
}

func TestDoneTellsOfALabThatDied(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	if err := l.process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("10s after lab init was killed, Done is open")
	}
}

func TestTwoLabsKnowNothingOfEachOther(t *testing.T) {
	one, two := bring(t, Config{Lab: pair(0)}), bring(t, Config{Lab: pair(0)})
	a1, a2 := one.hand(t, "a"), two.hand(t, "a")
	one.hand(t, "b").do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	addr := one.host(t, "b").Addr.String() + ":4001"
	a1.do(order{Do: "dial", Network: "tcp4", Addr: addr, Timeout: time.Second})
	if got := a2.ask(order{Do: "dial", Network: "tcp4", Addr: addr, Timeout: time.Second}); !strings.Contains(got.Err, "refused") {
		t.Errorf("dial in the other lab: %q, want refused: nobody listens there", got.Err)
	}
}

func TestABystanderThatDoesNotStartFailsTheLab(t *testing.T) {
	bring(t, Config{Lab: pair(0)}) // skips where there can be no lab
	l := pair(0)
	l.Bystanders = 1
	dir := filepath.Join(t.TempDir(), "l")
	_, err := Up(t.Context(), Config{Lab: l, Binary: "/bin/false", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "bystander1") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if _, err := Up(t.Context(), Config{Lab: l}); err == nil {
		t.Error("a lab with a bystander comes up without a binary")
	}
}

func TestFoldersThatCannotHoldSocketsAreRefused(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		full: "not empty",
		filepath.Join(t.TempDir(), strings.Repeat("long", 30)): "too long",
	} {
		if _, err := Up(t.Context(), Config{Lab: pair(0), Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
		t.Errorf("what was in the folder is gone: %v", err)
	}
}

// traces are what a lab is made of, to look for afterwards.
type traces struct {
	pids   map[int]string // of every process below the first one, with its start time
	spaces map[string]bool
}

type process struct {
	pid, parent int
	name, start string
}

func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var all []process
	for _, d := range dirs {
		text, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue
		}
		i, j := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		f := strings.Fields(string(text[j+1:]))
		pid, _ := strconv.Atoi(filepath.Base(d))
		parent, _ := strconv.Atoi(f[1])
		if f[0] == "Z" {
			continue
		}
		all = append(all, process{pid: pid, parent: parent, name: string(text[i+1 : j]), start: f[19]})
	}
	return all
}

// tracesOf collects a process and everything below it.
func tracesOf(pid int) traces {
	tr := traces{pids: map[int]string{}, spaces: map[string]bool{}}
	ours := map[int]bool{pid: true}
	all := processes()
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !ours[p.pid] && ours[p.parent] {
				ours[p.pid], grown = true, true
			}
		}
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	for _, p := range all {
		if ours[p.pid] {
			tr.pids[p.pid] = p.start
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid)); err == nil && ns != own {
				tr.spaces[ns] = true
			}
		}
	}
	return tr
}

// left lists what is still there of a lab.
func (tr traces) left() string {
	var b strings.Builder
	for _, p := range processes() {
		if tr.pids[p.pid] == p.start {
			fmt.Fprintf(&b, "process %+v\n", p)
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid)); err == nil && tr.spaces[ns] {
			fmt.Fprintf(&b, "process %+v in %s\n", p, ns)
		}
	}
	return b.String()
}
