package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/evidence"
)

// testBundle makes a bundle with a run of which nothing was observed.
func testBundle(t *testing.T, seal bool) string {
	t.Helper()
	w, err := evidence.Create(t.TempDir(), "firewall-traversal", time.Now())
	noErr(t, err)
	t.Cleanup(func() { w.Close() })
	_, err = w.Append(evidence.RunStarted, "", evidence.Started{RunID: "r1", Lab: true, Hosts: []evidence.Host{
		{Name: "tensor02", Role: "donor", Network: "campus"}, {Name: "laptop", Role: "submitter", Network: "house"},
	}})
	noErr(t, err)
	if !seal {
		return w.Dir()
	}
	_, err = w.Append(evidence.RunEnded, "", evidence.Ended{How: "finished"})
	noErr(t, err)
	b, err := evidence.Open(w.Dir())
	noErr(t, err)
	results := check.Check(check.Input{Events: b.Events, Logs: b.Logs, Answers: answers})
	stored, err := json.Marshal(results)
	noErr(t, err)
	noErr(t, w.WriteFile(evidence.ResultsFile, stored))
	noErr(t, w.WriteFile("index.md", []byte("# old\n")))
	noErr(t, w.Seal())
	return w.Dir()
}

// wce2e runs the command in this process.
func wce2e(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&talk)
	err := root.Execute()
	if err != nil {
		code = exitSuite
		var e *exitError
		if errors.As(err, &e) {
			code = e.code
		}
		talk.WriteString(err.Error())
	}
	return code, out.String(), talk.String()
}

func TestCheckOfARunThatSawNothingIsInconclusive(t *testing.T) {
	code, out, _ := wce2e(t, "check", testBundle(t, true))
	if code != exitInconclusive {
		t.Errorf("exit %d", code)
	}
	for _, c := range evidence.Claims {
		if !strings.Contains(out, string(c)) {
			t.Errorf("no word of %s in\n%s", c, out)
		}
	}
	if !strings.HasSuffix(out, "not accepted\n") {
		t.Errorf("the last line does not say the label:\n%s", out)
	}
}

func TestCheckRefusesAChangedBundle(t *testing.T) {
	for _, name := range []string{evidence.TraceFile, evidence.ResultsFile, evidence.RunLogFile, evidence.SumsFile} {
		dir := testBundle(t, true)
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		noErr(t, err)
		if len(text) == 0 {
			text = []byte("x")
		} else {
			text[len(text)/2] ^= 1
		}
		noErr(t, os.WriteFile(path, text, 0o644))
		code, out, talk := wce2e(t, "check", dir)
		if code != exitFail || out != "" || !strings.Contains(talk, name) || !strings.Contains(talk, "refused") {
			t.Errorf("%s: exit %d, %q, %s", name, code, out, talk)
		}
	}
}

func TestCheckOfACrashedRunSaysHowFarItCanBeRead(t *testing.T) {
	dir := testBundle(t, false)
	f, err := os.OpenFile(filepath.Join(dir, evidence.TraceFile), os.O_APPEND|os.O_WRONLY, 0)
	noErr(t, err)
	_, err = f.WriteString(`{"ts":"2026-11`)
	noErr(t, errors.Join(err, f.Close()))
	code, _, talk := wce2e(t, "check", dir)
	if code != exitInconclusive || !strings.Contains(talk, "did not end; readable up to line 1") || !strings.Contains(talk, "line 2 is torn") {
		t.Errorf("exit %d, %s", code, talk)
	}
}

func TestCheckOfAnEmptyTraceIsInconclusive(t *testing.T) {
	dir := t.TempDir()
	noErr(t, os.WriteFile(filepath.Join(dir, evidence.TraceFile), nil, 0o644))
	if code, _, talk := wce2e(t, "check", dir); code != exitInconclusive {
		t.Errorf("exit %d, %s", code, talk)
	}
}

func TestCheckOfWhatIsNoBundleIsAUsageError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	noErr(t, os.WriteFile(file, nil, 0o644))
	for _, arg := range []string{t.TempDir(), file, filepath.Join(file, "x"), "nowhere"} {
		for _, cmd := range []string{"check", "report"} {
			if code, _, talk := wce2e(t, cmd, arg); code != exitUsage {
				t.Errorf("%s %s: exit %d, %s", cmd, arg, code, talk)
			}
		}
	}
}

func TestCheckPrintsOneJSONDocument(t *testing.T) {
	dir := testBundle(t, true)
	code, out, _ := wce2e(t, "check", "--json", dir)
	var c checked
	noErr(t, json.Unmarshal([]byte(out), &c))
	if code != exitInconclusive || !c.Sealed || c.Refused || c.Lines != 2 || c.Results == nil || c.Problems == nil {
		t.Errorf("exit %d, %s", code, out)
	}
}

// claimsAll are results of which all claims have one verdict.
func claimsAll(v evidence.Verdict) *evidence.Results {
	overall := map[evidence.Verdict]string{evidence.Pass: "pass", evidence.Fail: "fail", evidence.Inconclusive: "partial"}[v]
	r := &evidence.Results{Overall: overall, Label: evidence.Smoke}
	for _, c := range evidence.Claims {
		r.Assertions = append(r.Assertions, evidence.Assertion{Name: c, Verdict: v, Pass: v == evidence.Pass})
	}
	return r
}

func TestTheExitCodeOfCheck(t *testing.T) {
	for _, c := range []struct {
		what string
		c    checked
		want int
	}{
		{"all pass", checked{Sealed: true, Results: claimsAll(evidence.Pass)}, exitPass},
		{"one fails", checked{Sealed: true, Results: claimsAll(evidence.Fail)}, exitFail},
		{"nothing was seen", checked{Sealed: true, Results: claimsAll(evidence.Inconclusive)}, exitInconclusive},
		{"all pass, and the run did not end", checked{Results: claimsAll(evidence.Pass)}, exitInconclusive},
		{"one fails, and the run did not end", checked{Results: claimsAll(evidence.Fail)}, exitFail},
		{"all pass, and other verdicts are stored", checked{Sealed: true, Results: claimsAll(evidence.Pass), Differs: []string{"job"}}, exitFail},
		{"refused", checked{Sealed: true, Refused: true}, exitFail},
	} {
		if got := exitCode(c.c.exit()); got != c.want {
			t.Errorf("%s: exit %d, want %d", c.what, got, c.want)
		}
	}
}

func TestStoredVerdictsThatDifferAreTold(t *testing.T) {
	for what, change := range map[string]func(*evidence.Results){
		"a verdict":  func(r *evidence.Results) { r.Assertions[3].Verdict = evidence.Fail },
		"a pass":     func(r *evidence.Results) { r.Assertions[3].Pass = false },
		"a claim":    func(r *evidence.Results) { r.Assertions[3].Name = "speed" },
		"one claim":  func(r *evidence.Results) { r.Assertions = r.Assertions[1:] },
		"the label":  func(r *evidence.Results) { r.Label = evidence.Accepted },
		"the whole":  func(r *evidence.Results) { r.Overall = "fail" },
		"everything": func(r *evidence.Results) { *r = evidence.Results{} },
	} {
		stored := claimsAll(evidence.Pass)
		change(stored)
		c := checked{Sealed: true, Results: claimsAll(evidence.Pass)}
		c.compare(stored)
		if len(c.Differs) == 0 {
			t.Errorf("%s differs, unseen", what)
		}
	}
	c := checked{Sealed: true, Results: claimsAll(evidence.Pass)}
	stored := claimsAll(evidence.Pass)
	stored.Assertions[0].Observed = "the same in other words"
	if c.compare(stored); len(c.Differs) > 0 || len(c.Notes) != 1 {
		t.Errorf("another wording: differs %v, notes %v", c.Differs, c.Notes)
	}
}

func TestAnUnfinishedRunIsNeverAccepted(t *testing.T) {
	c := checked{Results: claimsAll(evidence.Pass)}
	c.unfinished()
	if c.Results.Label != evidence.NotAccepted || c.Results.Overall != "partial" {
		t.Errorf("%+v", c.Results)
	}
}

func TestTheLastLineOfARunThatDidNotEndDoesNotSayPass(t *testing.T) {
	for v, want := range map[evidence.Verdict]string{evidence.Pass: "inconclusive", evidence.Inconclusive: "inconclusive", evidence.Fail: "fail"} {
		c := checked{Results: claimsAll(v)}
		c.unfinished()
		var out bytes.Buffer
		noErr(t, printVerdicts(&out, *c.Results))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, want+" ") {
			t.Errorf("all claims %s: the last line is %q", v, last)
		}
		if code := exitCode(c.exit()); code == exitPass {
			t.Errorf("all claims %s: exit %d", v, code)
		}
	}
}

func TestAForgedBundleMovesNoCursor(t *testing.T) {
	forged := claimsAll(evidence.Fail)
	forged.Assertions[0].Observed = "it failed \x1b[1A\x1b[2Kpass"
	c := checked{Results: forged, Problems: []string{"line 3 says \x1b[2J"}}
	var out bytes.Buffer
	noErr(t, printVerdicts(&out, *c.Results))
	c.talk(&out)
	if s := out.String(); strings.Contains(s, "\x1b") || !strings.Contains(s, "it failed ?[1A?[2Kpass") {
		t.Errorf("%q", s)
	}
}

func TestReportRendersAgainAndTheBundleStaysWhole(t *testing.T) {
	dir := testBundle(t, true)
	for range 2 {
		// Even where the old rendering was changed by hand.
		noErr(t, os.WriteFile(filepath.Join(dir, "index.md"), []byte("# by hand\n"), 0o644))
		code, out, talk := wce2e(t, "report", dir)
		if code != exitPass || strings.TrimSpace(out) != filepath.Join(dir, "report.html") {
			t.Fatalf("exit %d, %s, %s", code, out, talk)
		}
		b, err := evidence.Open(dir)
		noErr(t, err)
		if len(b.Problems) > 0 || b.Sums["report.html"] == "" || b.Sums["screenshots/hold.svg"] == "" {
			t.Errorf("problems %v", b.Problems)
		}
	}
	noErr(t, os.WriteFile(filepath.Join(dir, evidence.ResultsFile), []byte(`{}`), 0o644))
	if code, _, talk := wce2e(t, "report", dir); code != exitFail || !strings.Contains(talk, "results.json") {
		t.Errorf("of a changed bundle: exit %d, %s", code, talk)
	}
}

func TestAnswersAreThoseOfTheFixtures(t *testing.T) {
	one, module, input, err := answers("sha256", []byte("one"))
	noErr(t, err)
	two, module2, input2, err := answers("sha256", []byte("two"))
	noErr(t, err)
	if one == two || input == input2 || module != module2 || len(one) != 64 {
		t.Errorf("answers %s %s, inputs %s %s", one, two, input, input2)
	}
	if _, _, _, err := answers("sha257", []byte("x")); err == nil {
		t.Error("an unknown fixture has an answer")
	}
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
