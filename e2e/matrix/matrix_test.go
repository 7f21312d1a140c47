package matrix

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/evidence/report"
	"github.com/worldcompute/wce2e/inventory"
)

var update = flag.Bool("update", false, "write the expected outputs in testdata anew")

// passing are the verdicts of a run of which every claim passes.
func passing() map[evidence.Claim]evidence.Verdict {
	all := map[evidence.Claim]evidence.Verdict{}
	for _, c := range evidence.Claims {
		all[c] = evidence.Pass
	}
	return all
}

// out is a donor that got out by QUIC and was upgraded to a direct connection.
func out() (Expected, Seen) {
	truth := lab.Truth{Ways: []string{"tcp", "quic-v1", "wss"}, Direct: []string{"quic-v1", "tcp"}}
	return Expect(truth, time.Minute), Seen{
		Join: true, Transports: []string{"quic-v1"}, ReservedMS: 312.4, Direct: []string{"quic-v1"}, DirectMS: 290, Verdicts: passing(),
		Observed: map[evidence.Claim]string{}, Way: "the first to lead to a reservation", Phase: Done,
	}
}

func TestARunThatGoesByTheTruthDiffersInNothing(t *testing.T) {
	e, s := out()
	if got := Compare(e, s); len(got) > 0 {
		t.Errorf("it differs: %v", got)
	}
}

func TestEveryDifferenceIsSeenInBothDirections(t *testing.T) {
	blocked := Expect(lab.Truth{Verdicts: map[string]string{"hold": "fail", "reservation": "fail", "circuit": "fail", "job": "fail", "firewall": "inconclusive"}}, time.Minute)
	for name, c := range map[string]struct {
		change func(*Expected, *Seen)
		want   []string // columns
	}{
		"a donor that does not get out": {func(_ *Expected, s *Seen) { s.Join, s.Transports, s.Direct = false, nil, nil }, []string{"join", "direct"}},
		"a donor that gets out of a network that lets nothing out": {func(e *Expected, _ *Seen) { *e = blocked },
			[]string{"join", "firewall", "hold", "reservation", "circuit", "job", "transport", "direct"}},
		"a claim that fails":                      {func(_ *Expected, s *Seen) { s.Verdicts[evidence.HoldClaim] = evidence.Fail }, []string{"hold"}},
		"a claim that passes and should not":      {func(e *Expected, _ *Seen) { e.Verdicts[evidence.Firewall] = evidence.Inconclusive }, []string{"firewall"}},
		"a claim without a verdict":               {func(_ *Expected, s *Seen) { delete(s.Verdicts, evidence.Whole) }, []string{"evidence"}},
		"another transport":                       {func(_ *Expected, s *Seen) { s.Transports = []string{"quic-v1", "https"} }, []string{"transport"}},
		"no direct upgrade where one is possible": {func(_ *Expected, s *Seen) { s.Direct = nil }, []string{"direct"}},
		"a direct upgrade where none is possible": {func(e *Expected, _ *Seen) { e.Direct = nil }, []string{"direct"}},
		"a direct upgrade by another transport":   {func(e *Expected, _ *Seen) { e.Direct = []string{"tcp"} }, []string{"direct"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, s := out()
			c.change(&e, &s)
			var got []string
			for _, d := range Compare(e, s) {
				got = append(got, d.Column)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("columns %v, want %v", got, c.want)
			}
		})
	}
}

func TestAHoldBeyondTheLifetimeOfConnectionsIsExpectedToFail(t *testing.T) {
	truth := lab.Truth{Ways: []string{"tcp"}, Lifetime: 5 * time.Minute}
	for hold, want := range map[time.Duration]evidence.Verdict{20 * time.Second: evidence.Pass, 5 * time.Minute: evidence.Fail, 10 * time.Minute: evidence.Fail} {
		if got := Expect(truth, hold).Verdicts[evidence.HoldClaim]; got != want {
			t.Errorf("hold %s: %s, want %s", hold, got, want)
		}
	}
}

func TestWhatHappensToANetworkHappensWithinTheHold(t *testing.T) {
	truth := lab.Truth{Events: []lab.Event{{After: 30 * time.Second, Do: "reboot-router"}, {After: 10 * time.Second, Do: "login"}}}
	got := Faults(truth, 20*time.Second)
	want := []inventory.Fault{
		{After: 10 * time.Second, Do: inventory.RebootRouter, Network: near},
		{During: inventory.Join, After: 10 * time.Second, Do: inventory.Login, Host: donor},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTheInventoryOfACellIsOneThatCanBeRead(t *testing.T) {
	truth := lab.Truth{Events: []lab.Event{{After: 5 * time.Second, Do: "login"}, {After: 5 * time.Second, Do: "reboot-router"}}}
	c := Cell{Donor: "symmetric + udp-blocked", Submitter: Home}
	inv := c.Inventory(20*time.Second, Faults(truth, 20*time.Second))
	read, err := inventory.Parse("cell", inv.Scrub())
	if err != nil {
		t.Fatal(err)
	}
	if string(read.Scrub()) != string(inv.Scrub()) || read.Lab.Networks[0].Profile != c.Donor {
		t.Errorf("read, it is another one:\n%s", read.Scrub())
	}
}

func TestNoTwoCellsShareAFolder(t *testing.T) {
	cells := slices.Concat(Cells([]string{"home", "symmetric + udp-blocked"}, 2), Grid([]string{"home", "symmetric"}, GridTransports, 2))
	seen := map[string]Cell{}
	for _, c := range cells {
		if other, dup := seen[c.Folder()]; dup {
			t.Errorf("%s and %s: both %s", c, other, c.Folder())
		}
		seen[c.Folder()] = c
		if strings.ContainsAny(c.Folder(), " /\\") {
			t.Errorf("%q is not a plain name", c.Folder())
		}
	}
}

func TestShardsAreTheWholeAndShareNothing(t *testing.T) {
	cells := Place(Cells([]string{"a", "b", "c", "d", "e", "f", "g"}, 1))
	var all []Placed
	for i := range 3 {
		all = append(all, Shard{Index: i + 1, Of: 3}.Take(cells)...)
	}
	slices.SortFunc(all, func(a, b Placed) int { return a.Place - b.Place })
	if !reflect.DeepEqual(all, cells) {
		t.Errorf("together they are %v", all)
	}
	if !reflect.DeepEqual(Shard{}.Take(cells), cells) {
		t.Error("the zero shard is not the whole")
	}
}

func TestAShardIsWrittenAsIOfN(t *testing.T) {
	if s, err := ParseShard("2/8"); err != nil || s != (Shard{2, 8}) || s.String() != "2/8" {
		t.Errorf("2/8 is read as %v (%v)", s, err)
	}
	for _, bad := range []string{"", "2", "0/3", "4/3", "a/b", "1/0", "1/-2", "1/2/3", "1/2x", " 1/2 3"} {
		if s, err := ParseShard(bad); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
}

func TestASeedGivesTheSameOrderAgain(t *testing.T) {
	cells := Place(Cells([]string{"a", "b", "c", "d", "e", "f", "g"}, 1))
	if !reflect.DeepEqual(Shuffle(cells, 7), Shuffle(cells, 7)) {
		t.Error("one seed, two orders")
	}
	if reflect.DeepEqual(Shuffle(cells, 7), Shuffle(cells, 8)) {
		t.Error("two seeds, one order")
	}
	if !reflect.DeepEqual(cells, Place(Cells([]string{"a", "b", "c", "d", "e", "f", "g"}, 1))) {
		t.Error("the cells themselves were shuffled")
	}
}

// sample is a matrix in which a little of everything happened.
func sample() Results {
	began := time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC)
	r := Results{
		Version: Version, Software: "0.1.0", Source: evidence.Source{Commit: "0123456789abcdef", Tree: strings.Repeat("ab", 32), Go: "go1.26.0"},
		Began: began, Ended: began.Add(7 * time.Minute), Hold: evidence.Duration(20 * time.Second), Seed: 42,
	}
	add := func(c Cell, change func(*Outcome)) {
		o := Outcome{Cell: c, Place: len(r.Outcomes), Began: began, TookMS: 41_000, Bundle: CellsDir + "/" + c.Folder() + ".zip", SHA256: strings.Repeat("cd", 32)}
		o.Expected, o.Seen = out()
		change(&o)
		o.Differs = Compare(o.Expected, o.Seen)
		r.Outcomes = append(r.Outcomes, o)
	}
	add(Cell{"home", Home, "", 1}, func(*Outcome) {})
	add(Cell{"symmetric + udp-blocked", Home, "", 1}, func(o *Outcome) {
		o.Seen.Verdicts[evidence.HoldClaim], o.Seen.Observed[evidence.HoldClaim] = evidence.Fail, "The connection closed | <b>no</b> markup."
		o.Replaces = []Difference{{Column: "direct", Expected: "tcp", Seen: "none"}}
	})
	add(Cell{"open", Home, "", 1}, func(o *Outcome) {
		o.Err, o.Seen, o.Bundle, o.SHA256 = "bring the lab up: no\nroom", Seen{}, "", ""
	})
	for _, pair := range [][2]string{{"home", "home"}, {"home", "symmetric"}, {"symmetric", "home"}, {"symmetric", "symmetric"}} {
		add(Cell{pair[0], pair[1], "quic", 1}, func(o *Outcome) {
			if pair != [2]string{"home", "home"} {
				o.Expected.Direct, o.Seen.Direct, o.Seen.DirectMS = nil, nil, 0
			}
			if pair == [2]string{"symmetric", "home"} {
				o.Seen.Direct, o.Seen.DirectMS = []string{"quic-v1"}, 5300
			}
		})
	}
	r.Outcomes[2].Differs = nil // nothing was seen, and nothing is compared
	return r
}

func TestEveryRenderingIsAsItWas(t *testing.T) {
	r := sample()
	files, err := r.Files()
	if err != nil {
		t.Fatal(err)
	}
	if files[ResultsFile], err = r.JSON(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	files["matrix.txt"] = []byte(text.String())
	if want := []string{"grid-quic.svg", IndexFile, JUnitFile, HTMLFile, ResultsFile, "matrix.txt"}; !slices.Equal(sortedKeys(files), want) {
		t.Errorf("files %v, want %v", sortedKeys(files), want)
	}
	for name, got := range files {
		got = bytes.ReplaceAll(got, []byte(report.Style()), []byte("/* that of evidence/report */\n"))
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || string(want) != string(got) {
			t.Errorf("%s is another one (%v); look at it, then: go test ./e2e/matrix -update\n%s", name, err, got)
		}
	}
}

func TestTheRenderingsTellOfWhatDiffers(t *testing.T) {
	files, err := sample().Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		IndexFile: `| ✗ | symmetric + udp-blocked | yes | pass | **fail**, expected pass |`,
		HTMLFile:  `<b class="fail">fail</b>`,
		JUnitFile: `<failure message="not as expected: hold">`,
	} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %q:\n%s", name, want, files[name])
		}
	}
	for _, name := range []string{IndexFile, HTMLFile} {
		if strings.Contains(string(files[name]), "<b>no</b>") {
			t.Errorf("%s: what a host said has become markup", name)
		}
	}
	var suites junitSuites
	if err := xml.Unmarshal(files[JUnitFile], &suites); err != nil {
		t.Fatal(err)
	}
	if s := suites.Suites[0]; s.Tests != 7 || s.Failures != 2 || s.Errors != 1 || len(s.Cases) != 7 {
		t.Errorf("JUnit counts %d tests, %d failures, %d errors, %d cases", s.Tests, s.Failures, s.Errors, len(s.Cases))
	}
}

func TestTheWorstCellIsTheStateOfTheWhole(t *testing.T) {
	e, s := out()
	fine := Outcome{Expected: e, Seen: s}
	odd := Outcome{Expected: e, Seen: s, Differs: []Difference{{Column: "job"}}}
	cutShort := Outcome{Expected: e}
	broken := Outcome{Err: "no room"}
	for _, c := range []struct {
		outcomes []Outcome
		want     State
	}{
		{nil, Failed}, {[]Outcome{fine, fine}, AsExpected}, {[]Outcome{fine, odd}, Differs}, {[]Outcome{odd, broken, fine}, Failed}, {[]Outcome{fine, cutShort}, Differs},
	} {
		if got := (Results{Outcomes: c.outcomes}).State(); got != c.want {
			t.Errorf("%d outcomes: %q, want %q", len(c.outcomes), got, c.want)
		}
	}
}

func TestMergedShardsAreTheWholeMatrixAgain(t *testing.T) {
	whole := sample()
	a, b := whole, whole
	a.Outcomes, b.Outcomes = nil, nil
	for i, o := range whole.Outcomes {
		if i%2 == 0 {
			a.Outcomes = append(a.Outcomes, o)
		} else {
			b.Outcomes = append(b.Outcomes, o)
		}
	}
	merged, err := Merge(b, a)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := merged.JSON()
	want, _ := whole.JSON()
	if string(got) != string(want) {
		t.Errorf("merged:\n%s\nwant:\n%s", got, want)
	}
}

func TestARerunTakesThePlaceAndKeepsWhatWasFoundBefore(t *testing.T) {
	first := sample()
	rerun := first
	rerun.Began = first.Ended
	rerun.Outcomes = []Outcome{first.Outcomes[0]}
	rerun.Outcomes[0].Cell, rerun.Outcomes[0].Place = first.Outcomes[1].Cell, 1
	if got := first.Unexpected(); len(got) != 3 || got[0] != (Placed{first.Outcomes[1].Cell, 1}) {
		t.Errorf("to be run again: %v", got)
	}
	merged, err := Merge(rerun, first)
	if err != nil {
		t.Fatal(err)
	}
	again := merged.Outcomes[1]
	if again.State() != AsExpected || len(again.Replaces) != 2 || again.Replaces[1].Column != "hold" {
		t.Errorf("%s, replaces %v", again.State(), again.Replaces)
	}
}

func TestPartsOfDifferentSourcesAreNotMerged(t *testing.T) {
	a, b, c := sample(), sample(), sample()
	b.Source.Tree = strings.Repeat("ef", 32)
	c.Hold = evidence.Duration(time.Minute)
	for _, other := range []Results{b, c} {
		if _, err := Merge(a, other); err == nil {
			t.Error("they are")
		}
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing is merged into something")
	}
}

func TestAMatrixIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	want := sample()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("read:\n%s\nwritten:\n%s", a, b)
	}
	if _, err := os.Stat(filepath.Join(dir, evidence.SumsFile)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ResultsFile), []byte(`{"version": 99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadResults(dir); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("another version: %v", err)
	}
}

func TestTheTheoryOfPunchingHoles(t *testing.T) {
	find := map[string]lab.NAT{
		"open": {}, "full-cone": {Mapping: lab.EndpointIndependent, Filtering: lab.EndpointIndependent},
		"address-restricted": {Mapping: lab.EndpointIndependent, Filtering: lab.AddressDependent},
		"home":               {Mapping: lab.EndpointIndependent, Filtering: lab.PortDependent},
		"symmetric":          {Mapping: lab.PortDependent, Filtering: lab.PortDependent},
		"pool":               {Mapping: lab.PortDependent, Filtering: lab.PortDependent, Pool: true},
	}
	for _, c := range []struct {
		donor, submitter string
		want             bool
	}{
		{"home", "home", true},
		{"home", "symmetric", false},
		{"symmetric", "home", false},
		{"symmetric", "symmetric", false},
		{"symmetric", "address-restricted", true}, // it let in the address, and any port of it
		{"address-restricted", "symmetric", true},
		{"pool", "address-restricted", false}, // from another address
		{"address-restricted", "pool", false},
		{"symmetric", "full-cone", true},
		{"full-cone", "symmetric", true},
		{"pool", "full-cone", true},
		{"pool", "pool", false},
		{"open", "symmetric", true},
		{"symmetric", "open", true},
	} {
		if got := Punchable(find[c.donor], find[c.submitter]); got != c.want {
			t.Errorf("%s x %s: %t, want %t", c.donor, c.submitter, got, c.want)
		}
	}
	for _, c := range []struct {
		donor, submitter string
		want             bool
	}{{"pool", "full-cone", true}, {"full-cone", "pool", false}, {"symmetric", "full-cone", false}, {"home", "home", false}} {
		if got := MayCollide(find[c.donor], find[c.submitter]); got != c.want {
			t.Errorf("%s x %s collide: %t, want %t", c.donor, c.submitter, got, c.want)
		}
	}
}

func TestOnlyNetworksThatMeddleWithNamesGoByName(t *testing.T) {
	for profile, want := range map[string]bool{"home": false, "dns-hijack": true, "doh-only": true, "symmetric + dns-no-txt": true, "udp-dns-only": false} {
		if got := ByName(profile); got != want {
			t.Errorf("%s: %t", profile, got)
		}
	}
}

func TestMemoryBoundsHowManyCellsStandAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemTotal: 9 kB\nMemAvailable:   23343160 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, ok := available(file); !ok || got != 23343160<<10 {
		t.Errorf("%d bytes (%t)", got, ok)
	}
	if _, ok := available(file + "-not"); ok {
		t.Error("what is not there is read")
	}
	if got := Room(3); got < 1 || got > 3 {
		t.Errorf("room for %d of 3", got)
	}
}

func TestAHoldOverATransportThatEventsEndIsExpectedToFail(t *testing.T) {
	e := Expect(lab.Truth{Ways: []string{"tcp", "quic-v1"}, Severs: []string{"tcp"}}, time.Minute)
	if got := e.Given("tcp").Verdicts[evidence.HoldClaim]; got != evidence.Fail {
		t.Errorf("held over TCP: %s", got)
	}
	if got := e.Given("quic-v1").Verdicts[evidence.HoldClaim]; got != evidence.Pass {
		t.Errorf("held over QUIC: %s", got)
	}
}
