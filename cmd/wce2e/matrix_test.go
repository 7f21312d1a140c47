package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/matrix"
	"github.com/worldcompute/wce2e/evidence"
)

// matrixTruths are those of the profiles that the tests below use, for a hold
// that is long enough for three round trips.
var matrixTruths = map[string]lab.Truth{
	"dartmouth": {Ways: []string{"wss"}},
	"blocked": {Verdicts: map[string]string{
		"firewall": "inconclusive", "hold": "fail", "reservation": "fail", "circuit": "fail", "job": "fail",
	}},
	"home": {Ways: []string{"tcp", "quic-v1", "webtransport", "wss"}, Direct: []string{"tcp", "quic-v1"}},
}

// playMatrix runs a matrix in this process, by these truths, and gives its exit
// code.
func playMatrix(t *testing.T, truths map[string]lab.Truth, args ...string) (int, matrix.Results, string) {
	t.Helper()
	needLab(t)
	var stdout, stderr bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	f := matrixFlags{hold: 12 * time.Second, repeat: 1, out: filepath.Join(t.TempDir(), "matrix")}
	p, cells, err := f.plan(cmd, args)
	if err != nil {
		t.Fatal(err)
	}
	for name, truth := range truths {
		if profile, ok := p.profiles[name]; ok {
			profile.Truth = truth
			p.profiles[name] = profile
		}
	}
	r, err := p.run(t.Context(), cells, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exitError
	code := exitPass
	if err := f.finish(cmd, r, p.dir); errors.As(err, &exit) {
		code = exit.code
	} else if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", stdout.String(), stderr.String())
	return code, r, p.dir
}

func TestAMatrixOfProfilesThatAreAsTheirTruthSaysPasses(t *testing.T) {
	t.Parallel()
	code, r, dir := playMatrix(t, matrixTruths, "home", "dartmouth", "blocked")
	if code != exitPass {
		t.Errorf("exit %d", code)
	}
	for _, o := range r.Outcomes {
		if o.State() != matrix.AsExpected {
			continue // told above
		}
		got := command(t, needLab(t), "check", "--json", filepath.Join(dir, o.Bundle))
		if want := map[string]int{"blocked": exitFail}[o.Donor]; got.exit != want {
			t.Errorf("check of %s: exit %d, want %d\n%s", o.Bundle, got.exit, want, got.stderr)
		}
	}
}

func TestAMatrixWhoseTruthIsWrongFails(t *testing.T) {
	t.Parallel()
	wrong := map[string]lab.Truth{"dartmouth": {Ways: []string{"tcp"}, Direct: []string{"tcp"}, Verdicts: map[string]string{"job": "fail"}}}
	code, r, _ := playMatrix(t, wrong, "dartmouth")
	if code != exitFail {
		t.Errorf("exit %d, want %d", code, exitFail)
	}
	var columns []string
	for _, d := range r.Outcomes[0].Differs {
		columns = append(columns, d.Column)
	}
	if want := []string{string(evidence.JobClaim), "transport", "direct"}; !slices.Equal(columns, want) {
		t.Errorf("it differs in %v, want %v", columns, want)
	}
}

func TestBadFlagsOfAMatrixBeginNothing(t *testing.T) {
	for _, flags := range [][]string{{"home", "--shard", "2/2"}, {"home", "--shard", "3/2"}, {"moon"}, {"home", "--hold", "0s"}, {"home", "--repeat", "0"}} {
		dir := filepath.Join(t.TempDir(), "matrix")
		code, _, said := wce2e(t, append([]string{"matrix", "--out", dir}, flags...)...)
		if _, err := os.Stat(dir); code != exitUsage || err == nil {
			t.Errorf("%v: exit %d, folder made: %t: %s", flags, code, err == nil, said)
		}
	}
}
