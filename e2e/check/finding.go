package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// maxSentences is how many sentences of one kind a finding says. The rest is
// counted: a thousand silent dials need no thousand sentences.
const maxSentences = 8

// finding is what a checker found, in sentences for a reader. The zero finding
// is inconclusive.
type finding struct {
	wrong   []string // contradicts the claim
	missing []string // the claim needs it, and it was not seen
	seen    []string // supports the claim
	because []uint64 // seq of the trace's lines that decided
}

// fail says what contradicts the claim.
func (f *finding) fail(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// lack says what the claim needs and nobody has seen.
func (f *finding) lack(format string, args ...any) {
	f.missing = append(f.missing, fmt.Sprintf(format, args...))
}

// see says what supports the claim.
func (f *finding) see(format string, args ...any) {
	f.seen = append(f.seen, fmt.Sprintf(format, args...))
}

// cite names lines of the trace that decided. 0 is no line.
func (f *finding) cite(lines ...uint64) {
	for _, l := range lines {
		if l != 0 {
			f.because = append(f.because, l)
		}
	}
}

// sound tells whether nothing has been said against the claim.
func (f *finding) sound() bool { return len(f.wrong) == 0 && len(f.missing) == 0 }

func (f *finding) verdict() evidence.Verdict {
	switch {
	case len(f.wrong) > 0:
		return evidence.Fail
	case len(f.missing) > 0 || len(f.seen) == 0:
		return evidence.Inconclusive
	}
	return evidence.Pass
}

// assertion tells the finding: what is wrong first, then what is missing, then
// what was seen.
func (f *finding) assertion() evidence.Assertion {
	var parts []string
	for _, kind := range [][]string{f.wrong, f.missing, f.seen} {
		kind = unique(kind)
		parts = append(parts, kind[:min(len(kind), maxSentences)]...)
		if more := len(kind) - maxSentences; more > 0 {
			parts = append(parts, fmt.Sprintf("(%d more like this.)", more))
		}
	}
	if len(parts) == 0 {
		parts = []string{"Nothing was observed."}
	}
	lines := append([]uint64{}, f.because...)
	slices.Sort(lines)
	v := f.verdict()
	return evidence.Assertion{
		Observed: strings.Join(parts, " "),
		Pass:     v == evidence.Pass,
		Verdict:  v,
		Because:  slices.Compact(lines),
	}
}

// unique drops repetitions and keeps the order.
func unique(words []string) []string {
	var out []string
	said := map[string]bool{}
	for _, w := range words {
		if !said[w] {
			said[w] = true
			out = append(out, w)
		}
	}
	return out
}
