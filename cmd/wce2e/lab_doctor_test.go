package main

import (
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func TestADiagnosisIsALineForEachAbility(t *testing.T) {
	var out strings.Builder
	err := printDiagnosis(&out, lab.Diagnosis{CanRun: true, Profiles: 38, Unfit: []lab.Unfit{{Profile: "syn-proxy", Why: "no such file"}}, Abilities: []lab.Ability{
		{Name: "veth", State: lab.OK, Needed: true},
		{Name: "SYN proxies", State: lab.Missing, Detail: "no such\nfile", Means: "no DDoS boxes", Remedy: "sudo modprobe nft_synproxy"},
	}})
	want := `ok       veth
missing  SYN proxies             no such; file; no DDoS boxes; to have it: sudo modprobe nft_synproxy
profile syn-proxy cannot run: no such file

Labs run here, with 37 of 38 profiles.
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	err = printDiagnosis(&out, lab.Diagnosis{Abilities: []lab.Ability{
		{Name: "user namespaces", State: lab.Missing, Needed: true}, {Name: "netem", State: lab.Missing}, {Name: "veth", State: lab.Untried, Needed: true}}})
	if err != nil || !strings.HasSuffix(out.String(), "\nNo lab can run here: user namespaces missing.\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestTheDoctorsExitCodeSaysWhetherALabCanRun(t *testing.T) {
	tmp := t.TempDir()
	startLab(t, tmp, "inventory/lab.yaml").end() // skips where there can be no lab
	l := &labProcess{t: t, tmp: tmp}
	stdout, stderr, code := l.run("", "lab", "doctor")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "\nLabs run here, with ") {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if stdout, _, code := l.run("", "lab", "doctor", "--json"); code != 0 || !strings.Contains(stdout, `"can_run": true`) || !strings.Contains(stdout, `"name": "nftables",`) {
		t.Errorf("exit %d\n%s", code, stdout)
	}
}
