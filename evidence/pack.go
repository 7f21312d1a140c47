package evidence

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// PackSuffix is how the name of a packed bundle ends.
const PackSuffix = ".zip"

// maxUnpacked bounds what a packed bundle may grow to, in bytes: what Open would
// read of it.
const maxUnpacked = maxTrace + maxLogText

// Pack writes the bundle in dir into one file, which must not exist: a tenth of
// the size, where there are many. The bundle itself is not changed by it; Unpack
// gives it back to the byte.
func Pack(dir, file string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("pack bundle: %w", err)
	}
	defer root.Close()
	names, odd, err := listFiles(root)
	if err == nil && len(odd) > 0 {
		err = errors.New(odd[0])
	}
	if err != nil {
		return fmt.Errorf("pack bundle %s: %w", dir, err)
	}
	f, err := openNew(file)
	if err != nil {
		return fmt.Errorf("pack bundle: %w", err)
	}
	if err := errors.Join(packAll(root, names, f), closeSynced(f)); err != nil {
		return errors.Join(fmt.Errorf("pack bundle %s: %w", dir, err), os.Remove(file))
	}
	return nil
}

func packAll(root *os.Root, names []string, to io.Writer) error {
	z := zip.NewWriter(to)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, name := range names {
		// No times, no modes: the same bundle gives the same bytes.
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			return err
		}
		f, err := openBounded(root, name)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return z.Close()
}

// Unpack puts a packed bundle into dir, which must be empty. ErrNoBundle: the
// file is none. What is in it, nobody vouches for: Open checks it.
func Unpack(file, dir string) error {
	z, err := zip.OpenReader(file)
	if errors.Is(err, zip.ErrFormat) {
		return fmt.Errorf("unpack bundle %s: not a zip file: %w", file, ErrNoBundle)
	}
	if err != nil {
		return fmt.Errorf("unpack bundle: %w", err)
	}
	defer z.Close()
	if !slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == TraceFile }) {
		return fmt.Errorf("unpack bundle %s: %w", file, ErrNoBundle)
	}
	if len(z.File) > maxFiles {
		return fmt.Errorf("unpack bundle %s: more than %d files", file, maxFiles)
	}
	left := int64(maxUnpacked)
	for _, f := range z.File {
		n, err := unpackOne(f, dir, left)
		if err != nil {
			return fmt.Errorf("unpack bundle %s: %w", file, err)
		}
		left -= n
	}
	return nil
}

func unpackOne(f *zip.File, dir string, left int64) (int64, error) {
	if !plainPath(f.Name) {
		return 0, fmt.Errorf("%q is not a name for a file of a bundle", f.Name)
	}
	from, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if err := makeParent(dir, f.Name); err != nil {
		return 0, err
	}
	to, err := openNew(filepath.Join(dir, filepath.FromSlash(f.Name)))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(to, io.LimitReader(from, left+1))
	if n > left {
		err = fmt.Errorf("it unpacks to more than %d bytes", int64(maxUnpacked))
	}
	return n, errors.Join(err, to.Close())
}
