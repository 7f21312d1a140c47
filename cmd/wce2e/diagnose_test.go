package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/evidence/report"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// diagnose runs `wce2e diagnose --json` on an inventory's text, and decodes what it says.
func diagnose(t *testing.T, inv string, args ...string) (outcome, diagnosed) {
	t.Helper()
	suite := needLab(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	if err := os.WriteFile(file, []byte(inv), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, suite, append([]string{"diagnose", file, "--json", "--out", dir}, args...)...)
	got.bundle = onlyBundle(t, dir)
	var said diagnosed
	if err := json.Unmarshal([]byte(got.stdout), &said); err != nil {
		t.Fatalf("exit %d: %v\n%s", got.exit, err, got.stderr)
	}
	return got, said
}

func (d hostDiagnosed) has(c netcheck.Cause) bool {
	return slices.ContainsFunc(d.Diagnosis.Causes, func(f netcheck.Finding) bool { return f.Cause == c })
}

func TestEachOfTheEightAddressesBehindTheUniversitysFirewallIsExplained(t *testing.T) {
	t.Parallel()
	inv, err := os.ReadFile("../../inventory/dartmouth-lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, said := diagnose(t, string(inv), "--quick")
	if got.exit != exitPass || len(said.Hosts) != 1 {
		t.Fatalf("exit %d, %d hosts\n%s", got.exit, len(said.Hosts), got.stderr)
	}
	d := said.Hosts[0]
	const eight = 8
	for i, target := range d.Report.Targets[:eight] {
		causes := d.explanations(i)
		switch {
		case len(causes) == 0 || slices.Contains(causes, netcheck.NoControl):
			t.Errorf("%s is not explained: %v", target.Addr, causes)
		case strings.Contains(target.Addr, "worldcompute.org") && !slices.Equal(causes, []netcheck.Cause{netcheck.NameUnknown}):
			t.Errorf("%s has no records: %v", target.Addr, causes)
		case strings.Contains(target.Addr, "/104.131.131.82/") && !slices.Equal(causes, []netcheck.Cause{netcheck.TargetDead}):
			t.Errorf("%s is gone: %v", target.Addr, causes)
		}
	}
	if !d.has(netcheck.MultistreamKilled) || !d.has(netcheck.UDPBlocked) || d.has(netcheck.TCPPortsBlocked) {
		t.Errorf("causes: %+v", d.Diagnosis.Causes)
	}
	if d.Diagnosis.Hypothesis != netcheck.H3 {
		t.Errorf("hypothesis %q, want H3", d.Diagnosis.Hypothesis)
	}
	if x := d.Report.Daemon; x == nil || !x.Joined || x.Way != "wss" {
		t.Errorf("the donor did not get out over WSS: %+v", x)
	}
	t.Run("offline, from the bundle alone, it is the same", func(t *testing.T) {
		if again := command(t, needLab(t), "check", got.bundle.Dir); again.exit != exitPass {
			t.Errorf("check: exit %d\n%s%s", again.exit, again.stdout, again.stderr)
		}
		list := check.Networks(check.Input{Events: got.bundle.Events})
		if len(list) != 1 || !slices.EqualFunc(list[0].Diagnosis.Causes, d.Diagnosis.Causes, func(a, b netcheck.Finding) bool { return a.Sentence == b.Sentence }) {
			t.Errorf("another diagnosis: %+v", list)
		}
	})
	t.Run("the bundle has its page", func(t *testing.T) {
		page, err := os.ReadFile(filepath.Join(got.bundle.Dir, report.DiagnosisFile))
		if err != nil || !strings.Contains(string(page), string(netcheck.MultistreamKilled)) {
			t.Errorf("%d bytes: %v", len(page), err)
		}
	})
}

// explanations are the causes given for one address of the list, where there are
// none for those ways that were reached. What is reached needs no cause; what has
// neither is unexplained.
func (d hostDiagnosed) explanations(target int) []netcheck.Cause {
	var causes []netcheck.Cause
	for _, e := range d.Diagnosis.Targets {
		if e.Target != target {
			continue
		}
		c := e.Cause
		if c == "" && e.Failed != "" || e.Sentence == "" {
			c = netcheck.NoControl
		}
		causes = append(causes, c)
	}
	return causes
}

func TestTheThreeHypothesesAreToldApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		changes []string
		want    netcheck.Hypothesis
		exit    int
	}{
		{"H1: a daemon that is killed", []string{"run: {", "faults: [{after: 5s, do: kill, host: tensor02}]\nrun: {"}, netcheck.H1, exitPass},
		{"H2: dials that time out", []string{"campus: {profile: institutional}", "campus: {profile: blocked}"}, netcheck.H2, exitFail},
		{"none: a daemon that joins", nil, netcheck.NoHypothesis, exitPass},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, said := diagnose(t, short(t, c.changes...), "--quick")
			if got.exit != c.exit || len(said.Hosts) != 1 || said.Hosts[0].Diagnosis.Hypothesis != c.want {
				t.Errorf("exit %d, want %d; %+v\n%s", got.exit, c.exit, said.Hosts, got.stderr)
			}
		})
	}
}

func TestAQuickDiagnosisOfTheInstitutionalNetworkTakesLessThanHalfAMinute(t *testing.T) {
	got, _ := diagnose(t, short(t), "--quick")
	events := got.bundle.Events
	if took := events[len(events)-1].TS.Sub(events[0].TS); took > quickWithin {
		t.Errorf("from the first connection to the last it took %v", took.Round(time.Millisecond))
	}
	got.wants(t, exitPass, map[evidence.Claim]evidence.Verdict{evidence.WayOut("tensor02"): evidence.Pass, evidence.ResidueFree: evidence.Pass, evidence.Whole: evidence.Pass})
}

func TestWithoutAControlNothingIsCalledBlocked(t *testing.T) {
	t.Parallel()
	got, said := diagnose(t, short(t, "tensor02: campus,", "tensor02: house,", "network: campus", "network: house", "    campus: {profile: institutional}\n", "",
		"house: {profile: home}", "house: {profile: institutional}", "expect_blocked: [inbound, udp, tcp-high-ports]", "expect_blocked: [inbound]"), "--quick")
	if got.exit != exitInconclusive || len(said.Hosts) != 1 || !said.Hosts[0].has(netcheck.NoControl) || said.Hosts[0].has(netcheck.TCPPortsBlocked) {
		t.Errorf("exit %d: %+v", got.exit, said.Hosts)
	}
}

func TestARunThatFailsDiagnosesTheDonorsNetwork(t *testing.T) {
	t.Parallel()
	got := acceptance(t, edit(t, short(t, "campus: {profile: institutional}", "campus: {profile: blocked}"), "observe: 30s", "observe: 12s"))
	if got.exit != exitFail && got.exit != exitInconclusive {
		t.Errorf("exit %d", got.exit)
	}
	list := check.Networks(check.Input{Events: got.bundle.Events})
	if len(list) != 1 || len(list[0].Diagnosis.Causes) == 0 || list[0].Diagnosis.Causes[0].Cause != netcheck.AllBlocked {
		t.Errorf("diagnosed: %+v\n%s", list, got.stderr)
	}
}

func TestTheRelaySaysThatNeitherEndClosedTheConnection(t *testing.T) {
	t.Parallel()
	got, said := diagnose(t, short(t, "campus: {profile: institutional}", "campus: {profile: dpi-multistream-rst}"), "--quick")
	if got.exit != exitPass || len(said.Hosts) != 1 {
		t.Fatalf("exit %d, %d hosts\n%s", got.exit, len(said.Hosts), got.stderr)
	}
	d := said.Hosts[0]
	if !slices.ContainsFunc(d.Report.Arrivals, func(a netcheck.Arrival) bool {
		return a.Failure == netcheck.Reset && a.Received == 0 && a.Sent > 0 && strings.HasSuffix(a.Local, ":4001")
	}) {
		t.Errorf("no relay saw a reset: %+v", d.Report.Arrivals)
	}
	if !slices.ContainsFunc(d.Diagnosis.Causes, func(f netcheck.Finding) bool {
		return f.Cause == netcheck.MultistreamKilled && f.Confidence == netcheck.Certain && strings.Contains(f.Sentence, "Neither end closed the connection")
	}) {
		t.Errorf("causes: %+v", d.Diagnosis.Causes)
	}
	for _, n := range check.Networks(check.Input{Events: got.bundle.Events}) {
		if !slices.Equal(n.Report.Arrivals, d.Report.Arrivals) {
			t.Errorf("offline, from the bundle alone, others arrived: %+v", n.Report.Arrivals)
		}
	}
}
