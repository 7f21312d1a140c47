package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// These tests run the command as a person does, in labs, and break one thing
// each, to see the right claim fail. The command is the release build: what is
// tested is what ships.

// runTimeout bounds one run of a test: building the lab, a hold of a few
// seconds, dials that time out, on a machine that runs two of them.
const runTimeout = 4 * time.Minute

var releaseBuild = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	path, _, err := new(release.Builder).Build(ctx, runtime.GOOS, runtime.GOARCH)
	return path, err
})

// labRefused says why no lab can be had here, or nothing.
var labRefused = sync.OnceValue(func() error {
	l, err := lab.Up(context.Background(), lab.Config{Lab: &inventory.Lab{
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}},
		Hosts:    []inventory.LabHost{{Name: "alone", Network: "core"}},
	}})
	if err != nil {
		return err
	}
	return l.Close()
})

// needLab skips, loudly, where no lab can be had.
func needLab(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short: this test brings a lab up")
	}
	if err := labRefused(); err != nil {
		t.Skipf("SKIPPED: no lab can be had here: %v", err)
	}
	suite, err := releaseBuild()
	if err != nil {
		t.Fatalf("release build: %v", err)
	}
	return suite
}

// edit changes an inventory's text and fails where there is nothing to change,
// so that no test quietly runs the default one.
func edit(t testing.TB, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("the inventory has no %q to change", oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

// short is the default inventory with a hold that is just long enough for three
// liveness round trips.
func short(t testing.TB, oldnew ...string) string {
	return edit(t, edit(t, string(inventory.Default), "hold: 20s", "hold: 12s"), oldnew...)
}

// outcome is a finished run.
type outcome struct {
	exit           int
	stdout, stderr string
	bundle         *evidence.Bundle
}

// acceptance runs `wce2e run` on an inventory.
func acceptance(t testing.TB, inv string, args ...string) outcome {
	t.Helper()
	suite := needLab(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	if err := os.WriteFile(file, []byte(inv), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, suite, append([]string{"run", file, "--out", dir}, args...)...)
	got.bundle = onlyBundle(t, dir)
	return got
}

func command(t testing.TB, suite string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("wce2e %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return outcome{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

func onlyBundle(t testing.TB, root string) *evidence.Bundle {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "firewall-traversal", "*Z")) // and what lies beside a bundle is none
	if err != nil || len(found) != 1 {
		t.Fatalf("bundles below %s: %v, %v; want one", root, found, err)
	}
	b, err := evidence.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wants fails the test unless the claims have these verdicts.
func (o outcome) wants(t *testing.T, exit int, verdicts map[evidence.Claim]evidence.Verdict) {
	t.Helper()
	bad := o.exit != exit
	if bad {
		t.Errorf("exit %d, want %d", o.exit, exit)
	}
	if o.bundle.Results == nil {
		t.Fatalf("no results\n%s", o.stderr)
	}
	for _, a := range o.bundle.Results.Assertions {
		if want, ok := verdicts[a.Name]; ok && a.Verdict != want {
			bad = true
			t.Errorf("%s: %s, want %s: %s", a.Name, a.Verdict, want, a.Observed)
		}
	}
	if bad {
		t.Logf("stderr:\n%s\nstdout:\n%s", o.stderr, o.stdout)
	}
}

func (o outcome) observed(claim evidence.Claim) string {
	for _, a := range o.bundle.Results.Assertions {
		if a.Name == claim {
			return a.Observed
		}
	}
	return ""
}

func allPass() map[evidence.Claim]evidence.Verdict {
	all := map[evidence.Claim]evidence.Verdict{}
	for _, c := range evidence.Claims {
		all[c] = evidence.Pass
	}
	return all
}

func TestADonorBehindTheInstitutionalFirewallPassesEveryClaim(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t))
	got.wants(t, exitPass, allPass())
	if got.bundle.Results.Label != evidence.Smoke {
		t.Errorf("label %q, want %q", got.bundle.Results.Label, evidence.Smoke)
	}
	t.Run("the donor reached the relay over WSS on 443 only", func(t *testing.T) {
		opened := 0
		for _, e := range nodeEvents(t, got.bundle, "tensor02") {
			if e.Kind != wire.ConnOpened || e.Relay != "" || e.Direction != "outbound" {
				continue
			}
			opened++
			if e.Transport != "wss" || !strings.Contains(e.Remote, "/tcp/443/") {
				t.Errorf("the donor connected to %s by %s", e.Remote, e.Transport)
			}
		}
		if opened == 0 {
			t.Error("the donor opened no connection")
		}
	})
	t.Run("an altered answer fails the job", func(t *testing.T) {
		b := got.bundle
		altered := func(fixture string, nonce []byte) (string, string, string, error) {
			output, module, input, err := answers(fixture, nonce)
			return strings.Repeat("0", len(output)), module, input, err
		}
		for _, a := range check.Check(check.Input{Events: b.Events, Logs: b.Logs, Answers: altered}).Assertions {
			if want := map[bool]evidence.Verdict{true: evidence.Fail, false: evidence.Pass}[a.Name == evidence.JobClaim]; a.Verdict != want {
				t.Errorf("%s: %s, want %s", a.Name, a.Verdict, want)
			}
		}
	})
	t.Run("wce2e check agrees, and refuses one changed byte", func(t *testing.T) {
		suite := needLab(t)
		if again := command(t, suite, "check", got.bundle.Dir); again.exit != exitPass {
			t.Errorf("check: exit %d\n%s", again.exit, again.stderr)
		}
		for _, name := range []string{evidence.TraceFile, filepath.Join("logs", "tensor02.log.gz")} {
			copied := filepath.Join(t.TempDir(), "bundle")
			if err := os.CopyFS(copied, os.DirFS(got.bundle.Dir)); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(copied, name))
			if refused := command(t, suite, "check", copied); refused.exit != exitFail || !strings.Contains(refused.stderr, filepath.Base(name)) {
				t.Errorf("%s changed: exit %d, stderr %q", name, refused.exit, refused.stderr)
			}
		}
	})
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func nodeEvents(t testing.TB, b *evidence.Bundle, host string) []wire.Event {
	t.Helper()
	var events []wire.Event
	for _, e := range b.Events {
		if e.Name != evidence.NodeSaid || e.Host != host {
			continue
		}
		var n wire.Event
		if err := json.Unmarshal(e.Data, &n); err != nil {
			t.Fatal(err)
		}
		events = append(events, n)
	}
	return events
}

func TestWithoutAFirewallNoneWasTraversed(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t, "campus: {profile: institutional}", "campus: {profile: open}"), "--pcap")
	recording, err := os.ReadFile(got.bundle.Dir + ".pcapng")
	const atLeast = 10_000 // bytes: a donor that joins and runs jobs says more than that
	if err != nil || !bytes.Contains(recording, []byte("host tensor02 at ")) || len(recording) < atLeast {
		t.Errorf("%v: %d bytes recorded beside the bundle are not the donor's traffic", err, len(recording))
	}
	got.wants(t, exitInconclusive, map[evidence.Claim]evidence.Verdict{evidence.Firewall: evidence.Inconclusive, evidence.JobClaim: evidence.Pass})
	if !strings.Contains(got.observed(evidence.Firewall), "No firewall was traversed") {
		t.Errorf("firewall: %s", got.observed(evidence.Firewall))
	}
}

func TestTwoHostsOfOneNetworkProveNoCircuitBetweenNetworks(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t, "tensor02: campus,", "tensor02: house,", "network: campus", "network: house", "    campus: {profile: institutional}\n", "",
		"expect_blocked: [inbound, udp, tcp-high-ports]", "expect_blocked: [inbound]"))
	got.wants(t, exitInconclusive, map[evidence.Claim]evidence.Verdict{evidence.Circuit: evidence.Inconclusive})
}

func TestAJobKeepsToTheCircuitWhereADirectUpgradeIsPossible(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t, "campus: {profile: institutional}", "campus: {profile: home}",
		"expect_blocked: [inbound, udp, tcp-high-ports]", "expect_blocked: [inbound]"))
	got.wants(t, exitPass, allPass())
	jobs := 0
	for _, e := range nodeEvents(t, got.bundle, "tensor02") {
		if e.Kind == wire.JobReceived {
			jobs++
			if e.Path != wire.Relayed {
				t.Errorf("job %s came by the path %q", e.Task, e.Path)
			}
		}
	}
	if jobs != 2 {
		t.Errorf("%d jobs received, want 2", jobs)
	}
	upgraded := slices.ContainsFunc(nodeEvents(t, got.bundle, "tensor02"), func(e wire.Event) bool {
		return e.Kind == wire.HolePunch && e.Outcome == wire.OK
	})
	if !upgraded {
		t.Error("no hole punch succeeded: that a job keeps to the circuit was not put to the test")
	}
}

func TestALostRelayFailsTheHoldAndNothingElse(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t, "run: {", "faults: [{after: 6s, do: kill, host: held-relay}]\nrun: {"))
	want := allPass()
	want[evidence.HoldClaim] = evidence.Fail
	got.wants(t, exitFail, want)
	relays := map[string]bool{}
	for _, e := range nodeEvents(t, got.bundle, "tensor02") {
		if e.Kind == wire.ReservationMade {
			relays[e.Relay] = true
		}
	}
	if len(relays) != 2 {
		t.Errorf("the donor reserved at %d relays, want 2: the killed one and the other", len(relays))
	}
}

func TestAKilledDonorLeavesItsExitStatusAndItsLastLinesInTheVerdict(t *testing.T) {
	t.Parallel()
	got := acceptance(t, short(t, "run: {", "faults: [{after: 6s, do: kill, host: tensor02}]\nrun: {"))
	got.wants(t, exitFail, map[evidence.Claim]evidence.Verdict{evidence.HoldClaim: evidence.Fail})
	if seen := got.observed(evidence.HoldClaim); !strings.Contains(seen, "KILL") || !strings.Contains(seen, "its last lines: time=") {
		t.Errorf("hold: %s", seen)
	}
}
