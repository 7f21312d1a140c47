package evidence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The files of a bundle that have a fixed name.
const (
	TraceFile    = "trace.jsonl"
	RunLogFile   = "run.log"
	MetadataFile = "metadata.json"
	ResultsFile  = "results.json"
	SumsFile     = "SHA256SUMS"
)

// picturesDir holds what a run is to be seen by.
const picturesDir = "screenshots"

// stampLayout names a bundle's folder: UTC, sorts by time, no colon (Windows).
const stampLayout = "20060102T150405Z"

// ErrSealed is the error of everything that would change a sealed bundle.
var ErrSealed = errors.New("the bundle is sealed")

// Writer writes one bundle. What it has accepted is on the disk: a crash, of
// the suite or of its machine, leaves a prefix that Open reads and verifies.
// A Writer is safe for concurrent use.
type Writer struct {
	dir    string
	now    func() time.Time
	runLog *os.File

	mu     sync.Mutex // guards the fields below, and the files' contents
	trace  *os.File
	size   int64  // of the trace, all lines whole
	seq    uint64 // of the last line
	prev   string // hash of the last line
	broken error  // why the trace takes no more lines
	sealed bool
	// scrub cleans what the suite itself says: typed event data and run.log. A
	// json.RawMessage is somebody else's word, whose hash may have been taken
	// already: it stays as it is, and ScanSecrets tells what should not be in it.
	scrub Scrubber
	watch func(Event) // nil: nobody watches
}

// Watch has f told of every event from now on, in order, once it is on the disk.
// f must be quick, and must not call the Writer. A second call replaces the first.
func (w *Writer) Watch(f func(Event)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = f
}

// Hide names a home directory that the suite must not write as it is: ~ stands
// for it from now on. Those below /home, /Users and /root need not be named.
func (w *Writer) Hide(home string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.scrub.Homes, home) {
		w.scrub.Homes = append(w.scrub.Homes, home)
	}
}

// Create begins a bundle in root/area/<UTC>, where now gives the last part. It
// never writes into a folder that exists: a second bundle of the same second
// gets the suffix -2.
func Create(root, area string, now time.Time) (*Writer, error) {
	if !plainName(area) {
		return nil, fmt.Errorf("create bundle: area %q is not a folder's name", area)
	}
	dir, err := makeDir(filepath.Join(root, area), now.UTC().Format(stampLayout))
	if err != nil {
		return nil, fmt.Errorf("create bundle: %w", err)
	}
	w := &Writer{dir: dir, now: time.Now, prev: firstPrev}
	if w.trace, err = openNew(filepath.Join(dir, TraceFile)); err != nil {
		return nil, fmt.Errorf("create bundle: %w", err)
	}
	if w.runLog, err = openNew(filepath.Join(dir, RunLogFile)); err != nil {
		return nil, errors.Join(fmt.Errorf("create bundle: %w", err), w.trace.Close())
	}
	return w, syncDirs(dir, filepath.Dir(dir))
}

// makeDir makes a folder that did not exist, named name or name-2, name-3 ...
func makeDir(parent, name string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	const most = 1000 // bundles of one second and area
	for n := 1; n <= most; n++ {
		dir := filepath.Join(parent, name)
		if n > 1 {
			dir += "-" + strconv.Itoa(n)
		}
		err := os.Mkdir(dir, 0o755)
		if !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
	return "", fmt.Errorf("%s: %d bundles of that name exist", filepath.Join(parent, name), most)
}

// openNew makes a file that anybody may read, whatever the umask: a bundle is
// to be published.
func openNew(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Dir is the bundle's folder.
func (w *Writer) Dir() string { return w.dir }

// Item is one event to append; see Append.
type Item struct {
	Name Name
	Host string // empty: the suite as a whole
	Data any    // of the type that Name says; a json.RawMessage keeps its bytes
}

// Append adds one event and returns its seq when it is on the disk. An item
// that cannot be written (an unknown name, data that is not JSON, a line above
// MaxLine) is an error and changes nothing. After a failed write the trace
// takes no more lines: what follows would not be known to follow.
func (w *Writer) Append(name Name, host string, data any) (seq uint64, err error) {
	return w.AppendAll(Item{name, host, data})
}

// AppendAll adds several events in a row, synced once, and returns the seq of
// the last one. Either all are written or none. No items: nothing happens.
func (w *Writer) AppendAll(items ...Item) (last uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.writable(); err != nil {
		return 0, fmt.Errorf("append to %s: %w", TraceFile, err)
	}
	events, lines, prev, err := w.encode(items)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", TraceFile, err)
	}
	if len(events) == 0 {
		return w.seq, nil
	}
	if err := w.write(lines); err != nil {
		return 0, fmt.Errorf("append to %s: %w", TraceFile, err)
	}
	w.seq, w.prev = events[len(events)-1].Seq, prev
	if w.watch != nil {
		for _, e := range events {
			w.watch(e)
		}
	}
	return w.seq, nil
}

func (w *Writer) writable() error {
	switch {
	case w.sealed:
		return ErrSealed
	case w.broken != nil:
		return fmt.Errorf("an earlier write failed: %w", w.broken)
	}
	return nil
}

func (w *Writer) encode(items []Item) (events []Event, lines []byte, prev string, err error) {
	prev = w.prev
	ts := w.now().UTC()
	for _, it := range items {
		if err := checkItem(it); err != nil {
			return nil, nil, "", err
		}
		data, err := payload(it.Data, &w.scrub)
		if err != nil {
			return nil, nil, "", fmt.Errorf("%s: %w", it.Name, err)
		}
		e := Event{TS: ts, Seq: w.seq + uint64(len(events)) + 1, Name: it.Name, Host: it.Host, Data: data, Prev: prev}
		line, err := encodeLine(e)
		if err != nil {
			return nil, nil, "", fmt.Errorf("%s: %w", it.Name, err)
		}
		if len(line)+1 > MaxLine {
			return nil, nil, "", fmt.Errorf("%s: a line of %d bytes, and %d is the limit", it.Name, len(line)+1, MaxLine)
		}
		prev = hashLine(line)
		events = append(events, e)
		lines = append(append(lines, line...), '\n')
	}
	return events, lines, prev, nil
}

// write puts whole lines onto the disk. When that fails, half a line may be
// there: it is cut off again, and if even that fails, the reader finds it torn.
func (w *Writer) write(lines []byte) error {
	_, err := w.trace.Write(lines)
	if err == nil {
		err = w.trace.Sync()
	}
	if err != nil {
		w.broken = err
		return errors.Join(err, w.trace.Truncate(w.size))
	}
	w.size += int64(len(lines))
	return nil
}

// RunLog takes what the suite says while it runs. Each Write should be one line
// or several whole ones, as slog's are: it is scrubbed by itself. Once the
// bundle is sealed, writing is ErrSealed.
func (w *Writer) RunLog() io.Writer { return runLog{w} }

type runLog struct{ w *Writer }

func (l runLog) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.sealed {
		return 0, fmt.Errorf("write %s: %w", RunLogFile, ErrSealed)
	}
	if _, err := l.w.runLog.WriteString(l.w.scrub.String(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteFile writes a file of the bundle, whole or not at all. A file of that
// name is replaced. The trace, run.log and SHA256SUMS cannot be written so.
func (w *Writer) WriteFile(name string, content []byte) error {
	switch name {
	case TraceFile, RunLogFile, SumsFile:
		return fmt.Errorf("write %s: the bundle writes it itself", name)
	}
	if !plainPath(name) {
		return fmt.Errorf("write %q: not a file's name in a bundle", name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sealed {
		return fmt.Errorf("write %s: %w", name, ErrSealed)
	}
	if err := makeParent(w.dir, name); err != nil {
		return err
	}
	return replaceFile(w.dir, name, content)
}

// Seal ends the bundle: SHA256SUMS over every file in it, all on the disk. A
// bundle is sealed once.
func (w *Writer) Seal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sealed {
		return fmt.Errorf("seal %s: %w", w.dir, ErrSealed)
	}
	w.sealed = true
	if err := errors.Join(closeSynced(w.trace), closeSynced(w.runLog)); err != nil {
		return fmt.Errorf("seal %s: %w", w.dir, err)
	}
	if err := writeSums(w.dir); err != nil {
		return fmt.Errorf("seal %s: %w", w.dir, err)
	}
	return nil
}

// Close gives the files up without sealing, for a run that was not to end. It
// does nothing to a sealed bundle.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sealed {
		return nil
	}
	w.sealed = true
	return errors.Join(closeSynced(w.trace), closeSynced(w.runLog))
}

func closeSynced(f *os.File) error { return errors.Join(f.Sync(), f.Close()) }

// makeParent makes the folders that dir/name lies in.
func makeParent(dir, name string) error {
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, filepath.FromSlash(name))), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// replaceFile writes dir/name by way of a temporary file beside it.
func replaceFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	f, err := os.CreateTemp(filepath.Dir(path), tmpPrefix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), closeSynced(f))
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	return syncDirs(filepath.Dir(path))
}

// syncDirs makes the entries of folders durable, which a file's own sync does not.
func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return nil
}

// plainPath tells whether name is a path below the bundle that every tool
// reads alike: sha256sum escapes backslashes, and a shell stumbles over more.
func plainPath(name string) bool {
	if name == "" {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if !plainName(part) {
			return false
		}
	}
	return true
}

func plainName(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.' || c == '_' || c == '-' || c == '+':
		default:
			return false
		}
	}
	return true
}
