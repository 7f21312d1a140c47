package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// realHosts brings a lab up in a process of its own and gives an inventory that
// knows nothing of it: its hosts are aliases of an ssh_config, as real ones are.
func realHosts(t *testing.T, suite string) (inv, sshConfig string) {
	t.Helper()
	dir := t.TempDir()
	withLab, _, found := strings.Cut(short(t, "lease: 60s", "lease: 10s"), "\nlab:")
	if !found {
		t.Fatal("the default inventory has no lab")
	}
	file := filepath.Join(dir, "lab.yaml")
	if err := os.WriteFile(file, inventory.Default, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(suite, "lab", "up", "--json", file)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("lab up: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("lab up: %v", err)
	}
	var lab struct {
		SSHConfig string `json:"ssh_config"`
	}
	if err := json.Unmarshal(line, &lab); err != nil {
		t.Fatal(err)
	}
	return edit(t, withLab, "name: lab", "name: hosts"), lab.SSHConfig
}

func TestHostsThatTheSuiteDoesNotSimulateAreTreatedTheSame(t *testing.T) {
	t.Parallel()
	suite := needLab(t)
	text, sshConfig := realHosts(t, suite)
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(sshConfig)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a changed host key stops the run before anything is deployed", func(t *testing.T) {
		out := t.TempDir()
		known := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(known, swapKeys(t, filepath.Join(filepath.Dir(sshConfig), "known_hosts")), 0o600); err != nil {
			t.Fatal(err)
		}
		changed := filepath.Join(t.TempDir(), "ssh_config")
		text := edit(t, string(config), filepath.Join(filepath.Dir(sshConfig), "known_hosts"), known)
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := command(t, suite, "run", "-F", changed, file, "--out", out, "--no-commit")
		if got.exit != exitSuite || !strings.Contains(got.stderr, "tensor02: connect: ") || !strings.Contains(got.stderr, known) {
			t.Errorf("exit %d, stderr:\n%s", got.exit, got.stderr)
		}
		b := onlyBundle(t, out)
		if !b.Sealed {
			t.Error("the bundle is not sealed")
		}
		for _, e := range b.Events {
			if e.Name == evidence.Deployed {
				t.Errorf("%s was deployed to", e.Host)
			}
		}
	})

	t.Run("kill -9 of the suite leaves no node beyond the lease, and a readable bundle", func(t *testing.T) {
		out := t.TempDir()
		cmd := exec.Command(suite, "run", "-F", sshConfig, file, "--out", out, "--no-commit", "--hold", "5m")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { cmd.Process.Kill(); cmd.Wait() }
		defer kill()
		wait(t, "the hold to begin", time.Minute, func() bool {
			traces, _ := filepath.Glob(filepath.Join(out, "*", "*", evidence.TraceFile))
			if len(traces) == 0 {
				return false
			}
			b, err := os.ReadFile(traces[0])
			return err == nil && strings.Contains(string(b), string(evidence.HoldStarted))
		})
		kill()
		killed := time.Now()
		for _, host := range []string{"tensor02", "laptop", "relay1", "relay2"} {
			wait(t, "the nodes of "+host+" to end", 30*time.Second, func() bool {
				return len(running(t, sshConfig, host)) == 0
			})
		}
		t.Logf("nothing of ours ran %v after the kill (lease 10s)", time.Since(killed).Round(time.Second))
		got := command(t, suite, "check", onlyBundle(t, out).Dir)
		if got.exit != exitInconclusive || !strings.Contains(got.stderr, "did not end") {
			t.Errorf("check: exit %d, stderr:\n%s", got.exit, got.stderr)
		}
		if said := strings.Join(strings.Fields(got.stdout), " "); !strings.Contains(said, "Before the hold laptop reached tensor02 through") {
			t.Errorf("the circuit dial before the hold is not in what check says:\n%s", got.stdout)
		}
	})

	t.Run("the acceptance run passes", func(t *testing.T) {
		out := t.TempDir()
		got := command(t, suite, "run", "-F", sshConfig, file, "--out", out, "--no-commit")
		got.bundle = onlyBundle(t, out)
		got.wants(t, exitPass, allPass())
	})

	t.Run("a relay that is nobody's host will do: its voucher stands in for its record", func(t *testing.T) {
		before, rest, ok := strings.Cut(text, "  relay1:")
		_, after, ok2 := strings.Cut(rest, "\nrun: {")
		if !ok || !ok2 {
			t.Fatal("the default inventory has another shape")
		}
		alone := filepath.Join(dir, "alone.yaml")
		relays := "relays: [" + strings.Join(startRelay(t, sshConfig, "relay1"), ", ") + ", /dnsaddr/bootstrap.mesh.wce2e.net]"
		if err := os.WriteFile(alone, []byte(before+relays+"\nrun: {"+after), 0o600); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		got := command(t, suite, "run", "-F", sshConfig, alone, "--out", out, "--no-commit")
		got.bundle = onlyBundle(t, out)
		got.wants(t, exitPass, allPass())
	})
}

// startRelay starts a relay on a host of the lab that belongs to no inventory,
// and gives the addresses it can be reached at.
func startRelay(t *testing.T, sshConfig, host string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := remote.Dial(ctx, host, remote.Config{SSHConfig: sshConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const lives = "10m" // longer than the test; the lab's end ends it
	script := `set -e; bin=$(echo ~/.wce2e/bin/*/wce2e); d=~/stranger; $bin host start --dir $d --lease ` + lives + ` -- node run --dir $d --relay --no-bootstrap >&2
for i in 1 2 3 4 5 6 7 8 9; do $bin node status --dir $d --json && exit; sleep 1; done; exit 1`
	res, err := r.Exec(ctx, []string{"sh", "-c", script}, nil)
	if err != nil || res.Code != 0 {
		t.Fatalf("start a relay on %s: exit %d, %v: %s", host, res.Code, err, res.Stderr)
	}
	var st wire.Status
	if err := json.Unmarshal(res.Stdout, &st); err != nil {
		t.Fatal(err)
	}
	return st.Addrs
}

// swapKeys gives every host of a known_hosts file the key of the next one.
func swapKeys(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var out strings.Builder
	for i, line := range lines {
		host, _, _ := strings.Cut(line, " ")
		_, key, _ := strings.Cut(lines[(i+1)%len(lines)], " ")
		out.WriteString(host + " " + key + "\n")
	}
	return []byte(out.String())
}

// running lists the processes of ours on a host of the lab.
func running(t *testing.T, sshConfig, host string) []string {
	t.Helper()
	r, err := remote.Dial(t.Context(), host, remote.Config{SSHConfig: sshConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	res, err := r.Exec(t.Context(), []string{"sh", "-c", "exec ~/.wce2e/bin/*/wce2e host leftovers"}, nil)
	if err != nil || res.Code != 0 {
		t.Fatalf("leftovers of %s: exit %d, %v: %s", host, res.Code, err, res.Stderr)
	}
	var left evidence.Leftovers
	if err := json.Unmarshal(res.Stdout, &left); err != nil {
		t.Fatal(err)
	}
	return left.Processes
}

// wait waits for a condition, and fails with what it waited for.
func wait(t *testing.T, what string, within time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}
