package check

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/worldcompute/wce2e/evidence"
)

// whole judges that the evidence is all there and is what the hosts said: no
// violation of the bundle's integrity, an end to the trace, and for every host
// the hash of its log and of its events, computed there.
func whole(h *history, f *finding) {
	for _, p := range h.in.Problems {
		f.fail("%s.", p)
	}
	for _, u := range h.unreadable {
		f.fail("The trace cannot be read at %s.", u)
	}
	if len(h.hosts) == 0 {
		f.lack("The trace does not begin: it names no hosts.")
		return
	}
	h.ended(f)
	events, logs := 0, 0
	nodes := h.hosts
	if h.started.Kind == evidence.Diagnosing {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(x *host) bool { return !x.ran() })
	}
	for _, x := range nodes {
		if wholeLog(h, f, x) {
			logs++
		}
		if wholeEvents(h, f, x) {
			events += len(x.raw)
		}
	}
	if f.sound() {
		f.see("%d events of %d nodes and %d logs have the hashes computed on their hosts, and the trace of %d lines runs from the start of the run to its end.",
			events, len(nodes), logs, len(h.in.Events))
	}
}

// ended judges how the trace ends.
func (h *history) ended(f *finding) {
	events := h.in.Events
	switch {
	case events[0].Name != evidence.RunStarted:
		f.lack("The trace does not begin with the start of the run.")
	case len(h.endings) == 0:
		f.lack("The run did not come to its end: the trace stops at line %d (%s).", h.lastLine, events[len(events)-1].Name)
	case len(h.endings) > 1 || events[len(events)-1].Name != evidence.RunEnded:
		f.lack("The trace goes on after the end of the run.")
	case h.endings[0].How != "finished":
		f.lack("The run ended as %s%s.", word(h.endings[0].How, "nothing known"), because(h.endings[0].Err))
	}
	f.cite(h.lastLine)
}

// wholeLog compares a log with the hash computed on its host.
func wholeLog(h *history, f *finding, x *host) bool {
	if x.log == nil {
		f.lack("The log of %s was not collected.", x.Name)
		return false
	}
	f.cite(x.log.seq)
	text, ok := h.in.Logs[x.Name]
	switch {
	case !ok:
		f.fail("The log of %s was collected and is not there.", x.Name)
	case x.log.Kept < x.log.Size:
		f.see("Of the log of %s, %d of %d bytes are in the bundle, by its budget; the whole has the SHA-256 %s.", x.Name, x.log.Kept, x.log.Size, x.log.SHA256)
		return true
	case int64(len(text)) != x.log.Size || hash(text) != x.log.SHA256:
		f.fail("The log of %s is not the one that was hashed on its host: %d bytes with SHA-256 %s instead of %d with %s.", x.Name,
			len(text), short(hash(text)), x.log.Size, short(x.log.SHA256))
	default:
		return true
	}
	return false
}

// wholeEvents compares the events in the trace with the hash of the file that
// the node wrote.
func wholeEvents(h *history, f *finding, x *host) bool {
	if x.hashed == nil {
		f.lack("The events of %s were not hashed.", x.Name)
		return false
	}
	f.cite(x.hashed.seq)
	sum, size := sha256.New(), int64(0)
	for _, l := range x.raw {
		sum.Write(l)
		sum.Write([]byte{'\n'})
		size += int64(len(l)) + 1
	}
	switch got := hex.EncodeToString(sum.Sum(nil)); {
	case got == x.hashed.SHA256:
		return true
	case h.anyKilled(x) && size < x.hashed.Size:
		f.lack("%s was killed and its file of events ends in a part of a line: %d of its %d bytes are in the trace.", x.Name, size, x.hashed.Size)
	default:
		f.fail("The events of %s are not the ones that were hashed on it: %d bytes with SHA-256 %s instead of %d with %s.", x.Name,
			size, short(got), x.hashed.Size, short(x.hashed.SHA256))
	}
	return false
}

func hash(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
