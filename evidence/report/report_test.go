package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

var update = flag.Bool("update", false, "write the golden files anew")

func render(t *testing.T, b *evidence.Bundle) (index, html string) {
	t.Helper()
	files, err := Render(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Files {
		if len(files[name]) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	return string(files[IndexFile]), string(files[HTMLFile])
}

// picture gives the words of the hold's picture, which must be XML.
func picture(t *testing.T, b *evidence.Bundle) (svg, words string) {
	t.Helper()
	files, err := Render(b)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	dec := xml.NewDecoder(bytes.NewReader(files[HoldFile]))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return string(files[HoldFile]), text.String()
		}
		if err != nil {
			t.Fatalf("%s is no XML: %v\n%s", HoldFile, err, files[HoldFile])
		}
		if chars, ok := token.(xml.CharData); ok {
			text.Write(chars)
		}
	}
}

func TestThePictureOfTheHoldStandsByItself(t *testing.T) {
	svg, words := picture(t, sample(t))
	for what, want := range map[string]string{
		"its namespace":                  `<svg xmlns="http://www.w3.org/2000/svg"`,
		"a round trip on the held one":   `<circle class="ok"`,
		"a round trip without an answer": `<circle class="failed"`,
		"a link to the page":             `href="../report.html#e`,
		"its colors":                     `--pass:`,
		"its size, for an <img>":         `svg { width: 1120px; height: 300px; }`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("%s is not shown: no %q", what, want)
		}
	}
	for _, want := range []string{"kill relay1", "hold starts", "tensor02 holds connection c1"} {
		if !strings.Contains(words, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if _, words := picture(t, &evidence.Bundle{}); !strings.Contains(words, "No hold took place.") {
		t.Errorf("the picture of no hold says %q", words)
	}
}

func TestThePictureStaysXMLWhateverABundleSays(t *testing.T) {
	b := sample(t)
	for i := range b.Events {
		if b.Events[i].Name == evidence.HoldEnded {
			b.Events[i].Data = json.RawMessage(`{"cut":"\u0001\ufffe\u001b[0m </text><script>x</script> & ]]> \"'"}`)
		}
	}
	svg, words := picture(t, b)
	if strings.Contains(svg, "<script") || !strings.Contains(words, "</text><script>x</script>") {
		t.Errorf("the picture took markup from the bundle: %s", words)
	}
}

func TestTheIndexOfARunIsAsItWasReviewed(t *testing.T) {
	index, _ := render(t, sample(t))
	path := filepath.Join("testdata", "index.golden.md")
	if *update {
		if err := os.WriteFile(path, []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if index != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", path, index)
	}
}

func TestThePageShowsWhatTheTraceHolds(t *testing.T) {
	_, html := render(t, sample(t))
	for what, want := range map[string]string{
		"the label":                         `<span class="badge fail">not accepted</span>`,
		"a failed claim":                    `proven for 15 s of 30 s`,
		"an inconclusive claim":             `<span class="pill inconclusive">? inconclusive</span>`,
		"a round trip on the held one":      `<circle class="ok"`,
		"a round trip on another one":       `<circle class="other"`,
		"a round trip without an answer":    `<circle class="failed"`,
		"the fault":                         `kill relay1`,
		"the closing of the held one":       `held connection closed`,
		"the held connection's bar":         `<rect class="held"`,
		"a failed dial's bar":               `<rect class="failed"`,
		"an aborted dial's bar":             `<rect class="aborted"`,
		"a dial that never ended":           `? no outcome`,
		"the failure of a dial":             `quic_idle_timeout`,
		"the dead node's last lines":        "last line</pre>",
		"what a control met":                `generic_timeout_error: i/o timeout`,
		"the job's answer":                  `✓ as computed`,
		"the profile of a network":          `campus, profile institutional`,
		"the clock's offset, with its unit": `2000.0 ms ± 10.4 ms`,
		"the commit, changed":               `0123456789abcdef (with changes)`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("%s is not shown: no %q", what, want)
		}
	}
}

func TestEveryLinkOfThePageLeadsSomewhere(t *testing.T) {
	_, html := render(t, sample(t))
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if ids[m[1]] {
			t.Errorf("two elements are called %s", m[1])
		}
		ids[m[1]] = true
	}
	links := regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(html, -1)
	if len(links) < 50 {
		t.Fatalf("only %d links", len(links))
	}
	for _, m := range links {
		if !ids[m[1]] {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
}

func TestThePageIsOneFileWithoutScripts(t *testing.T) {
	_, html := render(t, sample(t))
	for _, banned := range []string{"<script", "http://", "https://", "@import", "<img", "<link", "url("} {
		if strings.Contains(strings.ToLower(html), banned) {
			t.Errorf("there is a %q in it", banned)
		}
	}
}

func TestWhatABundleSaysIsNeverMarkup(t *testing.T) {
	const evil = "\"><script>alert(1)</script><b x='\n# h | [l](javascript:alert(2)) `c`"
	b := sample(t)
	for i := range b.Events {
		var v any
		if err := json.Unmarshal(b.Events[i].Data, &v); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(poison(v, evil))
		if err != nil {
			t.Fatal(err)
		}
		b.Events[i].Data = raw
		if b.Events[i].Host != "" {
			b.Events[i].Host += evil
		}
	}
	b.Problems = []string{evil}
	b.Results.Assertions[0].Observed = evil
	b.Results.Label = evil
	index, html := render(t, b)
	if strings.Contains(html, "<script") || strings.Contains(html, "<b x") {
		t.Error("the page took markup from the bundle")
	}
	if !strings.Contains(html, "&lt;script&gt;") {
		t.Error("the page does not show what the bundle says")
	}
	for line := range strings.Lines(index) {
		if strings.HasPrefix(line, "# h") || strings.Contains(line, "<script") || strings.Contains(line, "[l](") {
			t.Errorf("the index took markup from the bundle: %s", line)
		}
	}
}

// poison appends text to every string but those that decide how an event is read.
func poison(v any, text string) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch key {
			case "event", "ts", "outcome", "purpose", "conn", "boot", "dial", "hold", "observe", "planned", "latency", "role":
			default:
				v[key] = poison(value, text)
			}
		}
	case []any:
		for i := range v {
			v[i] = poison(v[i], text)
		}
	case string:
		return v + text
	}
	return v
}

func TestNothingIsShownAsNothing(t *testing.T) {
	index, html := render(t, &evidence.Bundle{})
	for _, want := range []string{"No verdicts", "No hold took place.", "No node said anything.", "No control was made.", "No job was sent.", "No node dialled anybody.", "The trace is empty.", "did not come to its end"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(index, "pass") || !strings.Contains(index, "**inconclusive**") {
		t.Errorf("the index of an empty bundle:\n%s", index)
	}
}

func TestABrokenBundleSaysSoOnTop(t *testing.T) {
	b := sample(t)
	b.Problems = []string{"trace.jsonl:7: the chain is broken"}
	index, html := render(t, b)
	for name, text := range map[string]string{"page": html, "index": index} {
		at, claims := strings.Index(text, "not whole: trace.jsonl:7"), strings.Index(text, "Claims</h2>")
		if name == "index" {
			at, claims = strings.Index(text, "not whole: trace.jsonl:7"), strings.Index(text, "## Claims")
		}
		if at < 0 || claims < at {
			t.Errorf("the %s does not say so above its claims", name)
		}
	}
}

func TestARunThatCrashedIsShownUpToThere(t *testing.T) {
	b := sample(t)
	for cut := range b.Events {
		c := *b
		c.Events, c.Lines, c.Results = b.Events[:cut], cut, nil
		index, _ := render(t, &c)
		if !strings.Contains(index, fmt.Sprintf("the trace stops at line %d", cut)) {
			t.Fatalf("cut at %d, the index does not say so:\n%s", cut, index)
		}
	}
}

func TestAHostsClockIsCorrected(t *testing.T) {
	s := tell(sample(t))
	for _, m := range s.byRole("donor").events {
		if m.Kind == "node.started" {
			if want := after(2); m.at != want {
				t.Errorf("the donor started at %s, want %s", m.at, want)
			}
			return
		}
	}
	t.Error("the donor never started")
}

func TestTheDialsOfAHostAddUp(t *testing.T) {
	for _, d := range tell(sample(t)).dials() {
		want := map[string]string{"tensor02": "5 dials, 1 aborted, 2 failed, 2 ok", "laptop": "2 dials, 1 no outcome, 1 ok"}[d.Host]
		if d.Summary != want {
			t.Errorf("%s: %q, want %q", d.Host, d.Summary, want)
		}
	}
}

func TestSpansAreSaidAsAPersonSaysThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 300 * time.Microsecond: "0.30 ms", 42 * time.Millisecond: "42.0 ms", 500 * time.Millisecond: "500 ms", 5 * time.Second: "5 s",
		5500 * time.Millisecond: "5.5 s", time.Minute: "1 min", 10 * time.Minute: "10 min", 61 * time.Second: "1 min 01 s", 90 * time.Minute: "1 h 30 min",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is said %q, want %q", d, got, want)
		}
	}
}

func TestALongTraceMakesNoEndlessPage(t *testing.T) {
	h := &history{t: t}
	h.start()
	for i := range 11_000 {
		h.dial(2+float64(i)/100, 0.01, "tensor02", "tcp", "/ip4/45.1.0.10/tcp/4001", "failed", "connection_refused", "")
	}
	started := time.Now()
	_, html := render(t, &evidence.Bundle{Events: h.events})
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if len(html) > 9<<20 {
		t.Errorf("%d bytes of HTML", len(html))
	}
	if !strings.Contains(html, "more lines are only in the trace") || !strings.Contains(html, "more are not drawn") {
		t.Error("what is left out is not said")
	}
}

func FuzzRender(f *testing.F) {
	for _, seed := range []string{
		"run.started {\"hosts\":[{\"name\":\"a\",\"role\":\"donor\"}],\"hold\":\"1s\"}",
		"hold.started {\"conn\":\"c\"}\nnode.event {\"event\":\"relay.ping\",\"ts\":\"0001-01-01T00:00:00Z\",\"outcome\":\"ok\",\"ms\":1e308,\"conn\":\"c\"}",
		"host.facts {\"clock_offset_ms\":-1e300}\nnode.event {\"event\":\"conn.opened\",\"ts\":\"9999-01-01T00:00:00Z\"}",
		"node.event {\"event\":\"dial.ended\",\"ms\":-1,\"bytes\":18446744073709551615}", "dial.probed {}", "job.done {\"result\":7}", "host.residue null", "x [",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b evidence.Bundle
		for i, row := range strings.Split(text, "\n") {
			name, data, _ := strings.Cut(row, " ")
			b.Events = append(b.Events, evidence.Event{TS: after(float64(i)), Seq: uint64(i + 1), Name: evidence.Name(name), Host: "h", Data: json.RawMessage(data)})
		}
		_, html := render(t, &b)
		for _, bad := range []string{"NaN", "Inf", "ZgotmplZ"} {
			if strings.Contains(html, `"`+bad) || strings.Contains(html, " "+bad+",") {
				t.Errorf("a drawing holds %s", bad)
			}
		}
	})
}
