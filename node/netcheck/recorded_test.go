package netcheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recorded(t *testing.T, profile string) Report {
	raw, err := os.ReadFile(filepath.Join("testdata", "reports", profile+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordedReports(t *testing.T) {
	files, _ := filepath.Glob("testdata/reports/*.json")
	open := recorded(t, "open")
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		r := recorded(t, name)
		r.Controls = append(r.Controls, Control{Host: "open", Records: open.Records})
		d := Diagnose(r)
		t.Logf("%s: %v ways %v", name, causesOf(d), d.Ways)
		for _, c := range d.Causes {
			t.Logf("    %s %v", c.Sentence, c.Because)
		}
		for _, e := range d.Targets {
			if e.Cause == NoControl {
				t.Logf("       ?? %s %s %s %s", e.Addr, e.Failed, e.Failure, e.Sentence)
			}
		}
	}
}
