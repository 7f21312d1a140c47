package evidence

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Limits on what Open keeps in memory.
const (
	maxTrace    = 256 << 20 // bytes of trace.jsonl
	maxLogText  = 256 << 20 // bytes of all logs together, unpacked
	maxDocument = 16 << 20  // bytes of one JSON document, or of SHA256SUMS
	maxProblems = 50        // told of one file; of the rest, only the number
)

// ErrNoBundle is the error of Open for a folder that holds nothing of a bundle.
var ErrNoBundle = errors.New("not an evidence bundle, which has a " + TraceFile)

// Bundle is what Open has read.
type Bundle struct {
	Dir    string
	Events []Event // the readable lines of the trace, in order
	Lines  int     // whole lines of the trace, readable or not
	Torn   bool    // the trace ends in a part of a line, as a crash leaves it
	Tail   []byte  // that part; it is no event

	Logs     map[string][]byte // host -> text of its log, unpacked
	Metadata *Metadata         // nil: there is none, or it cannot be read
	Results  *Results          // the verdicts as stored; nil likewise

	Sealed bool              // there is a SHA256SUMS: the run came to its end
	Sums   map[string]string // SHA256SUMS: file -> hash

	// Problems are the violations of the bundle's integrity, as "file: problem"
	// or "file:line: problem". With one of them, nothing in the bundle should be
	// believed. A bundle that a crash left behind has none.
	Problems []string

	problems []problem
}

// problem is a Problem that still knows its file.
type problem struct{ file, text string }

// Open reads the bundle in dir and checks that it is whole: every line of the
// trace follows the one before, every file is the one that SHA256SUMS lists,
// every log the one that was hashed on its host. What is wrong is told in
// Problems; the error is for what is no bundle (ErrNoBundle) or cannot be read.
// Memory is bounded, whoever made the bundle.
func Open(dir string) (*Bundle, error) {
	switch info, err := os.Stat(dir); {
	case err != nil:
		return nil, fmt.Errorf("open bundle: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open bundle %s: not a folder: %w", dir, ErrNoBundle)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	defer root.Close()
	names, odd, err := listFiles(root)
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", dir, err)
	}
	if !slices.Contains(names, TraceFile) && !slices.Contains(names, SumsFile) {
		return nil, fmt.Errorf("open bundle %s: %w", dir, ErrNoBundle)
	}
	r := &reading{root: root, b: &Bundle{Dir: dir, Logs: map[string][]byte{}}, found: map[string]string{}, left: maxLogText}
	sealed := slices.Contains(names, SumsFile)
	for _, o := range odd {
		if sealed || !strings.Contains(o, tmpPrefix) { // a crash leaves files half written
			r.problem("", "%s", o)
		}
	}
	r.readAll(names)
	r.compareSums()
	r.compareLogs()
	r.b.tell(r.problems)
	return r.b, nil
}

// ProblemsBeside gives the problems that are not about the named files.
func (b *Bundle) ProblemsBeside(files ...string) []string {
	var rest []string
	for _, p := range b.problems {
		if !slices.Contains(files, p.file) {
			rest = append(rest, p.text)
		}
	}
	return rest
}

// tell fills Problems, no more than maxProblems of one file.
func (b *Bundle) tell(ps []problem) {
	count := map[string]int{}
	for _, p := range ps {
		if count[p.file]++; count[p.file] <= maxProblems {
			b.problems = append(b.problems, p)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(count)) {
		if more := count[file] - maxProblems; more > 0 {
			b.problems = append(b.problems, problem{file, fmt.Sprintf("%s: %d more problems", cmp.Or(file, b.Dir), more)})
		}
	}
	for _, p := range b.problems {
		b.Problems = append(b.Problems, p.text)
	}
}

// reading is a bundle being read. Each file is read once, and hashed as it is
// read: what was verified is what was parsed.
type reading struct {
	root     *os.Root
	b        *Bundle
	found    map[string]string // file -> the hash it has
	left     int64             // of maxLogText
	problems []problem
}

func (r *reading) problem(file, format string, args ...any) {
	r.problems = append(r.problems, problem{file, fmt.Sprintf(format, args...)})
}

func (r *reading) readAll(names []string) {
	for _, name := range names {
		if err := r.read(name); err != nil {
			r.problem(name, "%s: %v", name, err)
		}
	}
}

// read reads one file for what it is, and then what is left of it for its hash.
func (r *reading) read(name string) error {
	f, err := openBounded(r.root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	content := io.TeeReader(f, h)
	problem := r.parse(name, content)
	if _, err := io.Copy(io.Discard, content); err != nil {
		return errors.Join(problem, err)
	}
	r.found[name] = hex.EncodeToString(h.Sum(nil))
	return problem
}

func (r *reading) parse(name string, content io.Reader) error {
	host, isLog := logHost(name)
	switch {
	case isLog:
		return r.readLog(host, content)
	case name == TraceFile:
		return r.readTrace(content)
	case name == SumsFile:
		return r.readSums(content)
	case name == MetadataFile:
		return readDocument(content, &r.b.Metadata)
	case name == ResultsFile:
		return readDocument(content, &r.b.Results)
	}
	return nil
}

func (r *reading) readLog(host string, content io.Reader) error {
	z, err := gzip.NewReader(content)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(z, r.left+1))
	if int64(len(text)) > r.left {
		return fmt.Errorf("the logs unpack to more than %d bytes", maxLogText)
	}
	r.left -= int64(len(text))
	r.b.Logs[host] = text
	return err
}

func (r *reading) readSums(content io.Reader) error {
	r.b.Sealed = true
	text, err := readBounded(content)
	if err != nil {
		return err
	}
	sums, problems := parseSums(text)
	r.b.Sums = sums
	for _, p := range problems {
		r.problem(SumsFile, "%s", p)
	}
	if len(problems) == 0 && !bytes.Equal(text, formatSums(sums)) {
		return errors.New("not sorted by name")
	}
	return nil
}

// readDocument decodes one JSON document into a new T. On an error, *to is nil.
func readDocument[T any](content io.Reader, to **T) error {
	b, err := readBounded(content)
	if err != nil {
		return err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	*to = v
	return nil
}

func readBounded(content io.Reader) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(content, maxDocument+1))
	if n > maxDocument {
		return nil, fmt.Errorf("more than %d bytes", maxDocument)
	}
	return b.Bytes(), err
}

// compareSums holds the files to SHA256SUMS, both ways.
func (r *reading) compareSums() {
	if !r.b.Sealed {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.found)) {
		listed, ok := r.b.Sums[name]
		switch {
		case name == SumsFile:
		case !ok:
			r.problem(name, "%s: not in %s", name, SumsFile)
		case listed != r.found[name]:
			r.problem(name, "%s: changed: its SHA-256 is %s, and %s has %s", name, r.found[name], SumsFile, listed)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.b.Sums)) {
		if _, ok := r.found[name]; !ok && !r.unreadable(name) {
			r.problem(name, "%s: missing, and %s lists it", name, SumsFile)
		}
	}
	if r.b.Torn {
		r.problem(TraceFile, "%s:%d: the last line does not end, in a sealed bundle", TraceFile, r.b.Lines+1)
	}
}

// unreadable tells whether a problem with the file has been told already.
func (r *reading) unreadable(name string) bool {
	return slices.ContainsFunc(r.problems, func(p problem) bool { return p.file == name })
}

// compareLogs holds the logs to the hashes that were taken on the hosts. A log
// that the budget cut has only SHA256SUMS to vouch for it.
func (r *reading) compareLogs() {
	last := map[string]Event{} // a log that was fetched again replaces the earlier one
	for _, e := range r.b.Events {
		if e.Name == LogCollected {
			last[e.Host] = e
		}
	}
	for _, host := range slices.Sorted(maps.Keys(last)) {
		r.compareLog(host, last[host])
	}
}

func (r *reading) compareLog(host string, e Event) {
	var f LogFile
	if err := json.Unmarshal(e.Data, &f); err != nil {
		r.problem(TraceFile, "%s:%d: %s: %v", TraceFile, e.Seq, e.Name, err)
		return
	}
	text, ok := r.b.Logs[host]
	sum := sha256.Sum256(text)
	switch {
	case f.File != logName(host):
		r.problem(TraceFile, "%s:%d: the log of %s is said to be %q", TraceFile, e.Seq, host, f.File)
	case !ok:
		r.problem(f.File, "%s: missing, and %s:%d collected it", f.File, TraceFile, e.Seq)
	case f.Kept == f.Size && int64(len(text)) != f.Size:
		r.problem(f.File, "%s: %d bytes of text, and %d were on the host (%s:%d)", f.File, len(text), f.Size, TraceFile, e.Seq)
	case f.Kept == f.Size && hex.EncodeToString(sum[:]) != f.SHA256:
		r.problem(f.File, "%s: not the text that was hashed on the host (%s:%d)", f.File, TraceFile, e.Seq)
	case f.Kept > f.Size || f.Kept != f.Size && int64(len(text)) <= f.Kept:
		r.problem(f.File, "%s: %d bytes of text do not go with %d of %d kept (%s:%d)", f.File, len(text), f.Kept, f.Size, TraceFile, e.Seq)
	}
}
