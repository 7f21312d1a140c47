package onhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary stand for the supervisor, and for a node that
// listens.
func TestMain(m *testing.M) {
	if len(os.Args) > 6 && os.Args[1] == "supervise" { // --dir D --lease L -- ARG...
		lease, err := time.ParseDuration(os.Args[5])
		if err == nil {
			err = RunSupervisor(os.Args[3], lease, os.Args[7:], nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "listen" {
		listen(os.Args[2])
	}
	if len(os.Args) > 2 && (os.Args[1] == "host" || os.Args[1] == "node") { // in name only
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// listen holds one socket of each kind until it is ended.
func listen(dir string) {
	tcp, err1 := net.Listen("tcp", "127.0.0.1:0")
	udp, err2 := net.ListenPacket("udp", "127.0.0.1:0")
	unix, err3 := net.Listen("unix", filepath.Join(dir, "sock"))
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening on", tcp.Addr(), udp.LocalAddr(), unix.Addr())
	for {
		time.Sleep(time.Hour)
	}
}

func selfPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// start starts a shell script as the node of a new folder.
func start(t *testing.T, lease time.Duration, argv ...string) (dir string, s Started) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "node")
	s, err := Start(t.Context(), StartConfig{Dir: dir, Lease: lease, Args: argv, Supervisor: []string{selfPath(t), "supervise"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // whatever the test found out
		_ = sendSignal(s.PID, s.Born, syscall.SIGKILL)
		_ = sendSignal(s.Supervisor, s.SuperBorn, syscall.SIGKILL)
	})
	return dir, s
}

const loop = "while :; do sleep 0.1; done"

func await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ready(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 15s", what)
		}
	}
}

func awaitEnd(t *testing.T, dir string) (e Ended) {
	t.Helper()
	await(t, "exit.json", func() bool { return readJSON(filepath.Join(dir, ExitFile), &e) == nil })
	return e
}

func awaitLog(t *testing.T, dir, word string) {
	t.Helper()
	await(t, word+" in the log", func() bool { return strings.Contains(tail(filepath.Join(dir, LogFile)), word) })
}

func TestHowANodeEndsIsWrittenDown(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		code   int
		signal string
	}{
		"well":        {"echo last words; exit 0", 0, ""},
		"badly":       {"echo last words >&2; exit 7", 7, ""},
		"by a signal": {"echo last words; kill -SEGV $$", -1, "SEGV"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := start(t, time.Minute, "sh", "-c", c.script)
			e := awaitEnd(t, dir)
			if e.Code != c.code || e.Signal != c.signal || e.Tail != "last words" || e.Lease || e.Asked || e.Note != "" {
				t.Errorf("%+v", e)
			}
			if e.StartedAt.IsZero() || e.EndedAt.Before(e.StartedAt) {
				t.Errorf("from %v to %v", e.StartedAt, e.EndedAt)
			}
			await(t, "the supervisor to be gone", func() bool { return !runs(s.Supervisor, s.SuperBorn) })
			again, err := Stop(t.Context(), dir)
			if err != nil || again.Code != c.code || again.Signal != c.signal {
				t.Errorf("stopped afterwards: %+v, %v", again, err)
			}
		})
	}
}

func TestStopEndsANodeInOrder(t *testing.T) {
	dir, s := start(t, time.Minute, "sh", "-c", "trap 'echo ending; exit 3' TERM; echo up; "+loop)
	awaitLog(t, dir, "up")
	began := time.Now()
	e, err := Stop(t.Context(), dir)
	if err != nil || e.Code != 3 || !e.Asked || e.Lease || !strings.HasSuffix(e.Tail, "ending") {
		t.Errorf("%+v, %v", e, err)
	}
	if time.Since(began) > termGrace {
		t.Errorf("it took %v", time.Since(began))
	}
	if runs(s.PID, s.Born) {
		t.Error("it still runs")
	}
}

func TestTheStopFileAloneEndsANode(t *testing.T) {
	dir, _ := start(t, time.Minute, "sh", "-c", loop)
	if err := os.WriteFile(filepath.Join(dir, StopFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := awaitEnd(t, dir); !e.Asked || e.Lease || e.Signal != "TERM" {
		t.Errorf("%+v", e)
	}
}

func TestANodeThatDoesNotEndIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	dir, _ := start(t, time.Minute, "sh", "-c", "trap '' TERM; sh -c 'echo child $$; "+loop+"' & "+loop)
	awaitLog(t, dir, "child ")
	_, number, _ := strings.Cut(tail(filepath.Join(dir, LogFile)), "child ")
	child, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Stop(t.Context(), dir)
	if err != nil || e.Signal != "KILL" || !e.Asked {
		t.Errorf("%+v, %v", e, err)
	}
	await(t, "the child to be gone", func() bool { _, err := born(child); return err != nil })
}

func TestALapsedLeaseEndsANodeAndARenewedOneDoesNot(t *testing.T) {
	t.Parallel()
	dir, s := start(t, 1500*time.Millisecond, "sh", "-c", loop)
	for n := range 10 { // 3 s, twice the lease
		if err := os.WriteFile(filepath.Join(dir, LeaseFile), []byte(strconv.Itoa(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if !runs(s.PID, s.Born) {
		t.Fatal("it ended although its lease was renewed")
	}
	// The file being written with what it held is no renewal.
	stop := time.AfterFunc(500*time.Millisecond, func() { _ = os.WriteFile(filepath.Join(dir, LeaseFile), []byte("9"), 0o600) })
	defer stop.Stop()
	lapse := time.Now()
	e := awaitEnd(t, dir)
	if !e.Lease || e.Asked || e.Signal != "TERM" || time.Since(lapse) > 4*time.Second {
		t.Errorf("%+v after %v", e, time.Since(lapse))
	}
}

func TestALeaseThatNobodyEverRenewsLapses(t *testing.T) {
	t.Parallel()
	dir, _ := start(t, time.Second, "sh", "-c", loop)
	if e := awaitEnd(t, dir); !e.Lease || e.EndedAt.Sub(e.StartedAt) < time.Second {
		t.Errorf("%+v", e)
	}
}

func TestANodeDoesNotOutliveItsSupervisor(t *testing.T) {
	dir, s := start(t, time.Minute, "sh", "-c", "echo up; "+loop)
	awaitLog(t, dir, "up")
	if err := syscall.Kill(s.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the node to be gone", func() bool { return !runs(s.PID, s.Born) })
	e, err := Stop(t.Context(), dir)
	if err != nil || e.Code != -1 || e.Note == "" || e.Tail != "up" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestAFaultReachesTheNodeAndNobodyElse(t *testing.T) {
	dir, s := start(t, time.Minute, "sh", "-c", loop)
	if err := Signal(dir, "kill"); err != nil {
		t.Fatal(err)
	}
	if e := awaitEnd(t, dir); e.Signal != "KILL" || e.Asked || e.Lease {
		t.Errorf("%+v", e)
	}
	if err := Signal(dir, "SIGTERM"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a signal to a node that has ended: %v", err)
	}
	if err := Signal(dir, "NONSENSE"); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("a signal that is none: %v", err)
	}
	// Another process has got the number.
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if err := writeJSON(filepath.Join(dir, PIDFile), Running{PID: other.Process.Pid, Born: s.Born, Supervisor: other.Process.Pid, SuperBorn: s.SuperBorn}); err != nil {
		t.Fatal(err)
	}
	if err := Signal(dir, "KILL"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	if _, err := born(other.Process.Pid); err != nil {
		t.Error("a stranger was killed")
	}
}

func TestAFolderHasOneNodeAtATime(t *testing.T) {
	dir, s := start(t, time.Minute, "sh", "-c", loop)
	cfg := StartConfig{Dir: dir, Lease: time.Minute, Args: []string{"sh", "-c", "exit 5"}, Supervisor: []string{selfPath(t), "supervise"}}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), strconv.Itoa(s.PID)) {
		t.Errorf("%v", err)
	}
	if _, err := Stop(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor to be gone", func() bool { return !runs(s.Supervisor, s.SuperBorn) })
	if _, err := Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if e := awaitEnd(t, dir); e.Code != 5 || e.Asked {
		t.Errorf("the second node: %+v", e)
	}
}

func TestOfManyStartsInOneFolderOneSucceeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	cfg := StartConfig{Dir: dir, Lease: time.Minute, Args: []string{"sh", "-c", "echo up; " + loop}, Supervisor: []string{selfPath(t), "supervise"}}
	type outcome struct {
		Started
		err error
	}
	all := make(chan outcome)
	const many = 6
	for range many {
		go func() {
			s, err := Start(t.Context(), cfg)
			all <- outcome{s, err}
		}()
	}
	var up []Started
	for range many {
		o := <-all
		if o.err == nil {
			up = append(up, o.Started)
			defer func() { _ = sendSignal(o.Supervisor, o.SuperBorn, syscall.SIGKILL) }()
		} else if !strings.Contains(o.err.Error(), "runs in "+dir+" already") {
			t.Error(o.err)
		}
	}
	if len(up) != 1 {
		t.Fatalf("%d of %d were started", len(up), many)
	}
	if who, err := readRunning(dir); err != nil || who.PID != up[0].PID {
		t.Errorf("the folder says %+v, %v", who, err)
	}
	awaitLog(t, dir, "up")
	if e, err := Stop(t.Context(), dir); err != nil || !e.Asked || e.Tail != "up" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestAStartThatFailsSaysWhy(t *testing.T) {
	cfg := StartConfig{Dir: t.TempDir(), Args: []string{"/no/such/program"}, Supervisor: []string{selfPath(t), "supervise"}}
	if _, err := Start(t.Context(), cfg); !strings.Contains(fmt.Sprint(err), "/no/such/program") {
		t.Errorf("a program that is not there: %v", err)
	}
	cfg.Supervisor = []string{"sh", "-c", "echo the supervisor is ill >&2"}
	if _, err := Start(t.Context(), cfg); !strings.Contains(fmt.Sprint(err), "the supervisor is ill") {
		t.Errorf("a supervisor that fails: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	cfg.Supervisor = []string{"sh", "-c", "sleep 60 >/dev/null"}
	if _, err := Start(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a supervisor that says nothing: %v", err)
	}
	if _, err := Stop(t.Context(), t.TempDir()); err == nil {
		t.Error("a node that was never started was stopped")
	}
}

func TestNothingOfTheCallersIsInTheNodesHands(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("SKIPPED: open files cannot be listed here")
	}
	given, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer given.Close()
	defer theirs.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, theirs.Fd(), syscall.F_SETFD, 0); errno != 0 { // as a careless caller leaves it
		t.Fatal(errno)
	}
	dir, _ := start(t, time.Minute, "sh", "-c", "ls -l /proc/$$/fd; ps -o tty= -p $$; exit")
	awaitEnd(t, dir)
	text := tail(filepath.Join(dir, LogFile))
	if !strings.Contains(text, "/dev/null") || !strings.Contains(text, LogFile) || strings.Contains(text, "pipe:") || strings.Contains(text, "socket:") || !strings.Contains(text, "?") {
		t.Errorf("the node sees:\n%s", text)
	}
}

func TestTheTailIsShortAndWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	var lines strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&lines, "line %d %s\n", n, strings.Repeat("x", n%50))
	}
	if err := os.WriteFile(name, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(tail(name), "\n")
	if len(got) != tailLines || !strings.HasPrefix(got[0], "line 980 ") || !strings.HasPrefix(got[19], "line 999 ") {
		t.Errorf("%d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	if err := os.WriteFile(name, []byte(strings.Repeat("\xff", 100000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(name); len(got) > 3*tailBytes || json.Valid([]byte(got)) {
		t.Errorf("one long line: %d bytes", len(got))
	}
	if got := tail(name + ".not"); got != "" {
		t.Errorf("a file that is not there: %q", got)
	}
}
