package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/node/netcheck"
)

const diagnosisDoc = repoRoot + "/docs/diagnosis.md"

// generated puts a text into the part of a document that is made by the program: that
// between a comment that begins with mark, and the next end.
func generated(doc, mark, text string) (string, error) {
	const end = "<!-- end -->"
	before, rest, found := strings.Cut(doc, "<!-- "+mark)
	head, rest, closed := strings.Cut(rest, "-->\n")
	_, after, ended := strings.Cut(rest, end)
	if !found || !closed || !ended {
		return "", fmt.Errorf("it has no part %q", mark)
	}
	return before + "<!-- " + mark + head + "-->\n" + text + end + after, nil
}

// causesTable explains every cause.
func causesTable() string {
	var b strings.Builder
	b.WriteString("| cause | what it means | the donor | you | the administrator |\n|---|---|---|---|---|\n")
	for _, c := range netcheck.Causes() {
		a := netcheck.AdviceOn(c)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", c, a.Means, a.Donor, a.Operator, a.Administrator)
	}
	return b.String()
}

// letters are what administrators are asked behind some networks, as these were
// recorded.
func letters(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	control := recordedReport(t, "open")
	for _, profile := range []string{"institutional", "proxy-auth", "tls-intercept", "dpi-multistream-rst"} {
		r := recordedReport(t, profile)
		r.Controls = []netcheck.Control{{Host: "elsewhere", Records: control.Records}}
		d := netcheck.Diagnose(r)
		var causes []string
		for _, f := range d.Causes {
			causes = append(causes, "`"+string(f.Cause)+"`")
		}
		text := cmp.Or(d.Administrator, "Nothing is asked of them. "+d.Operator)
		fmt.Fprintf(&b, "### %s\n\n%s.\n\n> %s\n\n", profile, strings.Join(causes, ", "), strings.Join(wrap(text, 110), "\n> "))
	}
	return b.String()
}

func recordedReport(t *testing.T, profile string) (r netcheck.Report) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(reports, profile+".json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheDocOfTheDiagnosisIsTheProgramsOwn(t *testing.T) {
	doc, err := os.ReadFile(diagnosisDoc)
	if err != nil {
		t.Fatal(err)
	}
	want, err := generated(string(doc), "causes", causesTable())
	if err == nil {
		want, err = generated(want, "letters", letters(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(diagnosisDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(doc) {
		t.Errorf("%s is another one than the program makes: go test ./cmd/wce2e -run %s -update", diagnosisDoc, t.Name())
	}
}

func TestEveryCauseHasItsAdvice(t *testing.T) {
	for _, c := range netcheck.Causes() {
		if netcheck.AdviceOn(c).Means == "" {
			t.Errorf("%s means nothing to anybody", c)
		}
	}
}

// What the lab says of its networks is what diagnoses are graded by: both choose
// from the same words.
func TestTheLabsCausesAreTheDiagnosisOwn(t *testing.T) {
	known := netcheck.Causes()
	for _, p := range lab.Profiles() {
		for _, c := range p.Truth.Causes {
			if !slices.Contains(known, netcheck.Cause(c)) {
				t.Errorf("%s: no diagnosis ever finds %q", p.Name, c)
			}
		}
	}
}
