package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/worldcompute/wce2e/e2e/lab"
)

// labProcess is a `wce2e lab up` in another terminal.
type labProcess struct {
	t         *testing.T
	cmd       *exec.Cmd
	tmp       string // its TMPDIR and XDG_RUNTIME_DIR
	SSHConfig string `json:"ssh_config"`
	Hosts     []struct{ Name, Profile string }
	stderr    bytes.Buffer
}

// startLab waits until the lab of an inventory stands.
func startLab(t *testing.T, tmp, inv string) *labProcess {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	l := &labProcess{t: t, tmp: tmp}
	l.cmd = l.command("lab", "up", "--json", inv)
	l.cmd.Stderr = &l.stderr
	out, err := l.cmd.StdoutPipe()
	if err := errors.Join(err, l.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		l.cmd.Wait()
		said := l.stderr.String()
		if strings.Contains(said, "namespaces are refused") || strings.Contains(said, "the lab needs Linux") {
			t.Skipf("SKIPPED: no lab on this machine: %s", said)
		}
		t.Fatalf("%v\n%s", err, said)
	}
	if err := json.Unmarshal(line, l); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	t.Cleanup(func() { l.end() })
	return l
}

// command is wce2e, run by the same user.
func (l *labProcess) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(exe) // not with the context of the test, which ends before its cleanup
	cmd.Args = append([]string{"wce2e"}, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+l.tmp, "XDG_RUNTIME_DIR="+l.tmp, "TERM=vt220")
	return cmd
}

// run is a wce2e beside the lab, up to its end.
func (l *labProcess) run(stdin string, args ...string) (stdout, stderr string, code int) {
	l.t.Helper()
	var out, said bytes.Buffer
	cmd := l.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// end is Ctrl-C.
func (l *labProcess) end() {
	l.t.Helper()
	if l.cmd.ProcessState != nil {
		return
	}
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			l.t.Errorf("%v\n%s", err, l.stderr.String())
		}
	case <-time.After(30 * time.Second):
		l.t.Fatal("30s after Ctrl-C it still runs")
	}
}

func TestALabIsUpUntilItIsInterruptedAndLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	l := startLab(t, tmp, "inventory/lab.yaml")
	if len(l.Hosts) != 7 || l.Hosts[0].Name != "tensor02" || l.Hosts[0].Profile != "institutional" {
		t.Errorf("hosts: %+v", l.Hosts)
	}
	if ssh, err := exec.LookPath("ssh"); err != nil {
		t.Log("SKIPPED: logging in, since there is no ssh on this machine")
	} else if name, err := exec.CommandContext(t.Context(), ssh, "-F", l.SSHConfig, "tensor02", "hostname").Output(); string(name) != "tensor02\n" {
		t.Errorf("ssh: %q %v", name, err)
	}
	l.end()
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCommandsRunOnTheHostsOfALabThatStands(t *testing.T) {
	tmp := t.TempDir()
	l := startLab(t, tmp, "inventory/lab.yaml")
	for _, c := range []struct {
		stdin          string
		args           string
		stdout, stderr string
		code           int
	}{
		{"", "exec tensor02 -- hostname", "tensor02\n", "", 0},
		{"hello", "exec laptop cat -", "hello", "", 0},
		{"", "exec relay1 -- ls /nowhere", "", "/nowhere", 2},
		{"", "exec relay1 -- no-such-command", "", "not found", 127},
		{"kill -KILL $$", "exec tensor02 -- sh", "", "", 137},
		{"", "exec moon -- true", "", "the lab has no host moon\nwce2e: hint: it has tensor02, laptop, relay1, relay2\n", 64},
		{"", "exec bystander1 -- true", "", "a bystander: nobody logs in", 64},
		{"", "exec --lab moon tensor02 -- true", "", "no lab moon stands, only:\nwce2e: lab in ", 64},
		{"", "exec --lab lab tensor02 -- true", "", "", 0},
		{"hostname; exit 5", "shell relay2", "relay2\n", "", 5},
		{"", "pcap moon", "", "the lab has no host moon", 70},
	} {
		stdout, stderr, code := l.run(c.stdin, append([]string{"lab"}, strings.Fields(c.args)...)...)
		if stdout != c.stdout || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" || code != c.code {
			t.Errorf("%s: %q, %q, exit %d; want %q, %q, exit %d", c.args, stdout, stderr, code, c.stdout, c.stderr, c.code)
		}
	}
	stdout, _, _ := l.run("", "__complete", "lab", "shell", "")
	for _, host := range []string{"tensor02\tinstitutional", "relay1\topen"} {
		if !strings.Contains(stdout, host) {
			t.Errorf("a shell completes to %q, without %q", stdout, host)
		}
	}

	other := startLab(t, tmp, "inventory/lab.yaml")
	if _, stderr, code := l.run("", "lab", "exec", "tensor02", "--", "true"); code != 64 || !strings.Contains(stderr, "several labs stand") || !strings.Contains(stderr, "hint: choose one with --lab") {
		t.Errorf("with two labs: exit %d, %s", code, stderr)
	}
	folder := filepath.Dir(other.SSHConfig)
	if _, stderr, code := l.run("", "lab", "exec", "--lab", folder, "tensor02", "--", "true"); code != 0 {
		t.Errorf("with two labs, of which one was chosen: exit %d, %s", code, stderr)
	}
	other.end()
	l.end()
	if _, stderr, code := l.run("", "lab", "exec", "tensor02", "--", "true"); code != 64 || !strings.Contains(stderr, "no lab stands") {
		t.Errorf("without a lab: exit %d, %s", code, stderr)
	}
}

func TestALabCanBeUpForOneCommand(t *testing.T) {
	tmp := t.TempDir()
	startLab(t, tmp, "inventory/lab.yaml").end() // skips where there can be no lab
	l := &labProcess{t: t, tmp: tmp}
	stdout, stderr, code := l.run("", "lab", "exec", "--in", "inventory/lab.yaml", "tensor02", "--", "sh", "-c", "hostname; exit 4")
	if stdout != "tensor02\n" || stderr != "" || code != 4 {
		t.Errorf("%q, %q, exit %d", stdout, stderr, code)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTrafficOfALabIsRecordedUntilCtrlC(t *testing.T) {
	tmp := t.TempDir()
	l := startLab(t, tmp, "inventory/lab.yaml")
	file := filepath.Join(t.TempDir(), "all.pcapng")
	cmd := l.command("lab", "pcap", "tensor02", "campus", "-w", file)
	said, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(said).ReadString('\n'); line != "capturing tensor02, campus; Ctrl-C ends it\n" {
		t.Fatalf("it says %q", line)
	}
	if _, stderr, code := l.run("", "lab", "exec", "tensor02", "--", "getent", "hosts", "relay1.mesh.wce2e.net"); code != 0 {
		t.Fatal(stderr)
	}
	if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for err == nil {
		var data []byte
		data, _, err = r.ReadPacketData()
		found = found || bytes.Contains(data, []byte("\x06relay1\x04mesh")) // as DNS writes it
	}
	if !errors.Is(err, io.EOF) || !found {
		t.Errorf("the query was recorded: %t; %v", found, err)
	}
}

func TestALabIsChosenByNameFolderOrWhatItHas(t *testing.T) {
	campus := lab.Standing{Name: "lab", Dir: "/tmp/1", Hosts: []lab.Host{{Name: "tensor02", Network: "campus"}, {Name: "relay1", Network: "core"}}, Routers: []string{"campus"}}
	house := lab.Standing{Name: "lab", Dir: "/tmp/2", Hosts: []lab.Host{{Name: "laptop", Network: "house"}, {Name: "relay1", Network: "core"}}, Routers: []string{"house"}}
	both := []lab.Standing{campus, house}
	for _, c := range []struct {
		labs  []lab.Standing
		which string
		links []string
		want  string // a folder, or a part of the error
	}{
		{nil, "", nil, "no lab stands"},
		{both[:1], "", []string{"moon"}, "/tmp/1"}, // which then says what it has
		{both, "", []string{"tensor02"}, "/tmp/1"},
		{both, "", []string{"house/wan", "relay1"}, "/tmp/2"},
		{both, "", []string{"relay1"}, "several labs stand"},
		{both, "", []string{"tensor02", "laptop"}, "none of the labs that stand has tensor02 and laptop"},
		{both, "/tmp/2", []string{"tensor02"}, "/tmp/2"},
		{both, "lab", []string{"tensor02"}, "several labs stand"},
		{both, "moon", nil, "no lab moon stands"},
	} {
		got, err := chooseLab(c.labs, c.which, c.links)
		if text := fmt.Sprint(got.Dir, err); !strings.Contains(text, c.want) || (err == nil) != strings.HasPrefix(c.want, "/") {
			t.Errorf("--lab %q %q of %d: %s; want %s", c.which, c.links, len(c.labs), text, c.want)
		}
	}
}
