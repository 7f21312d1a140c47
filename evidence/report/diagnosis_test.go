package report

import (
	"bytes"
	"encoding/json"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// behind is what was seen behind one of the lab's firewalls, and on the open core.
func behind(t *testing.T, profile string) Network {
	t.Helper()
	read := func(name string) (r netcheck.Report) {
		b, err := os.ReadFile(filepath.Join("../../node/netcheck/testdata/reports", name+".json"))
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	n := Network{Host: "tensor02", Line: 7, Report: read(profile)}
	n.Report.Controls = []netcheck.Control{{Host: "laptop", Records: read("open").Records}}
	n.Report.Arrivals = []netcheck.Arrival{{Host: "relay1", Local: "91.13.0.2:4001", Remote: "91.10.0.2:49000", T0: 0.12, T: 0.005, Sent: 20, Failure: netcheck.Reset, Error: "why"}}
	n.Report.Daemon = &netcheck.Daemon{Started: true, Lived: 5, Dials: 3, Stalled: 1}
	n.Diagnosis = netcheck.Diagnose(n.Report)
	return n
}

func rendered(t *testing.T, n Network) string {
	t.Helper()
	page, err := RenderDiagnosis(&evidence.Bundle{}, []Network{n})
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestThePageOfADiagnosisExplainsEveryAddressAndDrawsEveryDial(t *testing.T) {
	n := behind(t, "dartmouth")
	page := rendered(t, n)
	for _, target := range n.Report.Targets {
		if !strings.Contains(page, html.EscapeString(shortAddr(target.Addr))) {
			t.Errorf("there is no word about %s", target.Addr)
		}
	}
	for _, want := range []string{"multistream_blocked", "H3 held", "a relay is reached by wss", "✓ laptop", "Every dial", "relay1 91.13.0.2:4001", "0.120 s", "20 B", "connection_reset", "For the network&#39;s administrator"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	dials := 0
	for _, d := range transactions(n.Report.Records) {
		if isDial(d) {
			dials++
		}
	}
	if drawn := len(n.waterfalls()[0].Rows); dials == 0 || drawn != dials {
		t.Errorf("%d of %d dials are drawn", drawn, dials)
	}
	if again := rendered(t, behind(t, "dartmouth")); again != page {
		t.Error("the same bundle gives another page")
	}
}

func TestWhatAHostSawCannotBreakThePageOfADiagnosis(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	n := behind(t, "institutional")
	n.Host = evil
	n.Report.Targets[0].Addr = evil
	n.Report.Records[0].Error, n.Report.Records[0].Addr, n.Report.Records[0].T0, n.Report.Records[0].T = evil, evil, -1e300, 1e300
	n.Report.Daemon.Said = evil
	n.Report.Arrivals = []netcheck.Arrival{{Host: evil, Local: evil, Remote: evil, T0: 1e300, Failure: evil, Error: evil}}
	n.Diagnosis.Administrator = evil
	if page := rendered(t, n); strings.Contains(page, "<script") {
		t.Error("a script got into the page")
	}
	if page := rendered(t, Network{}); !bytes.Contains([]byte(page), []byte("</html>")) {
		t.Error("nothing at all breaks the page")
	}
}
