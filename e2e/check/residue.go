package check

import (
	"maps"
	"slices"
	"strings"
)

// When Leftovers were listed.
const (
	leftBefore = "before"
	leftAfter  = "after"
)

// residue judges that the hosts are as they were. What was there before the run
// is not of this run, but a process left over from an earlier one is nothing to
// pass on. Nor are files that the operator asked to keep: nothing went wrong, but
// it was not shown that the run can clean up after itself.
func residue(h *history, f *finding) {
	if len(h.hosts) == 0 {
		f.lack("The trace names no hosts.")
		return
	}
	var cached []string
	used := h.used()
	for _, x := range used {
		r := &remains{h: h, f: f, host: x}
		cached = append(cached, r.judge()...)
	}
	if !f.sound() {
		return
	}
	names := make([]string, len(used))
	for i, x := range used {
		names[i] = x.Name
	}
	what := "no file either"
	if len(cached) > 0 {
		what = "of files only the cached binary (" + strings.Join(cached, ", ") + ")"
	}
	f.see("After the run there is no process and no listener of ours on %s, and %s.", strings.Join(names, ", "), what)
}

// remains is what is left on one host.
type remains struct {
	h             *history
	f             *finding
	host          *host
	before, after *leftovers
}

// judge compares the host after the run with before it, and names the cached
// binaries.
func (r *remains) judge() (cached []string) {
	for _, l := range r.host.left {
		switch l.When {
		case leftBefore:
			if r.before == nil {
				r.before = &l
			}
		case leftAfter:
			r.after = &l
		}
	}
	switch {
	case r.before == nil:
		r.f.lack("What was on %s before the run was not listed.", r.host.Name)
		return nil
	case r.after == nil:
		r.f.lack("What was left on %s after the run was not listed.", r.host.Name)
		return nil
	case r.after.seq < r.lastUse() || r.after.seq < r.before.seq:
		r.f.lack("What was left on %s was listed before the run had done with it.", r.host.Name)
		return nil
	}
	r.f.cite(r.before.seq, r.after.seq)
	r.running("process", r.before.Processes, r.after.Processes)
	r.running("listener", r.before.Listeners, r.after.Listeners)
	return r.files()
}

// lastUse is the last line that tells of something the run did on the host.
func (r *remains) lastUse() uint64 {
	var last uint64
	for _, e := range r.host.events {
		last = max(last, e.line)
	}
	for _, u := range r.host.ups {
		last = max(last, u.seq)
	}
	for _, p := range r.h.probes {
		if p.host == r.host.Name {
			last = max(last, p.seq)
		}
	}
	for _, n := range r.h.networks {
		if n.host == r.host.Name {
			last = max(last, n.seq)
		}
	}
	for _, t := range r.h.jobs {
		if t.host == r.host.Name {
			last = max(last, t.seq)
		}
	}
	return last
}

func (r *remains) running(what string, before, after []string) {
	for _, p := range after {
		if slices.Contains(before, p) {
			r.f.lack("On %s there is a %s of ours that was there before this run: %s.", r.host.Name, what, p)
			continue
		}
		r.f.fail("On %s there is still a %s of ours: %s.", r.host.Name, what, p)
	}
}

// files judges the files that are left. The binary that the run put there may
// stay, as long as it is what was put there; so may what was there before.
func (r *remains) files() (cached []string) {
	kept := 0
	for _, path := range slices.Sorted(maps.Keys(r.after.Files)) {
		hash := r.after.Files[path]
		d, deployed := r.deployment(path)
		switch {
		case deployed && slices.Contains(r.after.Allowed, path) && hash == d.SHA256:
			r.f.cite(d.seq)
			cached = append(cached, short(hash)+" on "+r.host.Name)
		case deployed && hash != d.SHA256:
			r.f.fail("On %s the cached binary %s is not the one that was put there: its SHA-256 is %s, not %s.", r.host.Name, path, word(short(hash), "not known"), short(d.SHA256))
		case hash != "" && r.before.Files[path] == hash:
			// as it was
		case r.h.started.Keep:
			kept++
		default:
			r.f.fail("On %s a file is left: %s.", r.host.Name, path)
		}
	}
	if kept > 0 {
		r.f.lack("On %s files of the run are left, kept on request: %d of them.", r.host.Name, kept)
	}
	return cached
}

// deployment finds what the run put at a path.
func (r *remains) deployment(path string) (d deployment, ok bool) {
	for _, d = range r.host.deployed {
		if d.Path == path {
			return d, true
		}
	}
	return d, false
}
