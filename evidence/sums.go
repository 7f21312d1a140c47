package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// Limits on what is read of a bundle that a stranger made. Bundles of ours stay
// below 10 MB.
const (
	maxFiles = 10_000
	maxFile  = 1 << 30 // bytes; a larger file is a problem, and is not read
)

// WriteSums hashes every file below dir into SHA256SUMS, in the form that
// `sha256sum -c` checks. A bundle's Writer does so when it seals.
func WriteSums(dir string) error {
	if err := writeSums(dir); err != nil {
		return fmt.Errorf("write %s of %s: %w", SumsFile, dir, err)
	}
	return nil
}

func writeSums(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	names, odd, err := listFiles(root)
	if err != nil {
		return err
	}
	if len(odd) > 0 {
		return errors.New(strings.Join(odd, "\n"))
	}
	sums := map[string]string{}
	for _, name := range names {
		if name == SumsFile {
			continue
		}
		if sums[name], err = sumFile(root, name); err != nil {
			return err
		}
	}
	return replaceFile(dir, SumsFile, formatSums(sums))
}

func formatSums(sums map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name)
	}
	return b.Bytes()
}

// parseSums reads SHA256SUMS, strictly: one changed byte anywhere is either an
// error here, or a hash or a name that no file has.
func parseSums(text []byte) (sums map[string]string, problems []string) {
	sums = map[string]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		at := fmt.Sprintf("%s:%d: ", SumsFile, n)
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		_, taken := sums[name]
		switch {
		case !strings.HasSuffix(line, "\n"):
			problems = append(problems, at+"the line does not end")
		case !ok || !isSum(sum) || !plainPath(name):
			problems = append(problems, at+"not a hash, two spaces and a file's name")
		case taken:
			problems = append(problems, at+name+" is listed twice")
		default:
			sums[name] = sum
		}
	}
	return sums, problems
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// tmpPrefix begins the names of files that are being written.
const tmpPrefix = ".tmp-"

// listFiles names the regular files of a bundle, sorted, and tells what else is
// there. Nothing is opened: a fifo would keep us waiting.
func listFiles(root *os.Root) (names, odd []string, err error) {
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			odd = append(odd, name+": not a regular file")
		case !plainPath(name):
			odd = append(odd, fmt.Sprintf("%q: not a name for a file of a bundle", name))
		default:
			names = append(names, name)
		}
		if len(names)+len(odd) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return nil
	})
	slices.Sort(names)
	return names, odd, err
}

func sumFile(root *os.Root, name string) (string, error) {
	f, err := openBounded(root, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openBounded opens a file that is regular and no larger than maxFile.
func openBounded(root *os.Root, name string) (*os.File, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, and %d is the limit", name, info.Size(), maxFile)
	}
	return root.Open(name)
}

// Rerender writes files that were rendered from the bundle in dir, in place of
// those of that name, and takes them up into SHA256SUMS. All other files must
// verify, or nothing is written: rendering never covers up a change. A bundle
// that is not sealed stays so. After a crash in the middle, the rendered files
// do not verify until Rerender is called again.
func Rerender(dir string, files map[string][]byte) error {
	b, err := Open(dir)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(files))
	if rest := b.ProblemsBeside(names...); len(rest) > 0 {
		return fmt.Errorf("render into %s: the bundle does not verify:\n%s", dir, strings.Join(rest, "\n"))
	}
	sums := maps.Clone(b.Sums)
	for _, name := range names {
		switch {
		case !rendered(name):
			return fmt.Errorf("render into %s: %q is not a rendered file", dir, name)
		case b.Sealed:
			sums[name] = hashLine(files[name])
		}
	}
	for _, name := range names {
		if err := makeParent(dir, name); err != nil {
			return err
		}
		if err := replaceFile(dir, name, files[name]); err != nil {
			return err
		}
	}
	if !b.Sealed {
		return nil
	}
	return replaceFile(dir, SumsFile, formatSums(sums))
}

// rendered tells whether a file may be one that was rendered from the others:
// neither what the writer writes itself nor a log.
func rendered(name string) bool {
	if picture, ok := strings.CutPrefix(name, picturesDir+"/"); ok {
		return plainName(picture)
	}
	return plainName(name) && !slices.Contains([]string{TraceFile, RunLogFile, SumsFile, MetadataFile, ResultsFile, picturesDir}, name)
}
