package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestALabIsUpUntilItIsInterruptedAndLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Args = []string{"wce2e", "lab", "up", "--json", "inventory/lab.yaml"}
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	var said struct {
		SSHConfig string `json:"ssh_config"`
		Hosts     []struct{ Name, Profile string }
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		cmd.Wait()
		if strings.Contains(stderr.String(), "namespaces are refused") || strings.Contains(stderr.String(), "the lab needs Linux") {
			t.Skipf("SKIPPED: no lab on this machine: %s", stderr.String())
		}
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if len(said.Hosts) != 7 || said.Hosts[0].Name != "tensor02" || said.Hosts[0].Profile != "institutional" {
		t.Errorf("hosts: %+v", said.Hosts)
	}
	if ssh, err := exec.LookPath("ssh"); err != nil {
		t.Log("SKIPPED: logging in, since there is no ssh on this machine")
	} else if name, err := exec.CommandContext(t.Context(), ssh, "-F", said.SSHConfig, "tensor02", "hostname").Output(); string(name) != "tensor02\n" {
		t.Errorf("ssh: %q %v", name, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v\n%s", err, stderr.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("20s after Ctrl-C it still runs")
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
