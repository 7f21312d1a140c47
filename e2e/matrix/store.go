package matrix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/worldcompute/wce2e/evidence"
)

// MakeDir makes the folder of a matrix. One that is there must be empty: no
// matrix is mixed with another.
func MakeDir(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, CellsDir), 0o755); err != nil {
		return fmt.Errorf("make the matrix's folder: %w", err)
	}
	for _, d := range []struct {
		path string
		most int
	}{{dir, 1}, {filepath.Join(dir, CellsDir), 0}} {
		inside, err := os.ReadDir(d.path)
		if err != nil {
			return fmt.Errorf("make the matrix's folder: %w", err)
		}
		if len(inside) > d.most {
			return fmt.Errorf("make the matrix's folder: %s is not empty", dir)
		}
	}
	return nil
}

// Write puts matrix.json and its renderings into dir, beside the cells' evidence,
// and SHA256SUMS over all of it.
func (r Results) Write(dir string) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	if files[ResultsFile], err = r.JSON(); err != nil {
		return err
	}
	for _, name := range sortedKeys(files) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return fmt.Errorf("write the matrix: %w", err)
		}
	}
	return evidence.WriteSums(dir)
}

// JSON is matrix.json.
func (r Results) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("write %s: %w", ResultsFile, err)
	}
	return b.Bytes(), nil
}

// Keep packs the sealed bundle of a cell into the matrix's folder, in place of
// the bundle's own, and notes where.
func (o *Outcome) Keep(dir, bundle string) error {
	o.Bundle = CellsDir + "/" + o.Cell.Folder() + evidence.PackSuffix
	file := filepath.Join(dir, filepath.FromSlash(o.Bundle))
	if err := evidence.Pack(bundle, file); err != nil {
		return err
	}
	sum, err := hashFile(file)
	o.SHA256 = sum
	return errors.Join(err, os.RemoveAll(filepath.Dir(bundle)))
}

// Gather copies the evidence of all cells from the folders of their parts, where
// it must have the hash that is noted.
func (r Results) Gather(to string, parts ...string) error {
	var errs []error
	for _, o := range r.Outcomes {
		if o.Bundle != "" {
			errs = append(errs, o.gather(to, parts))
		}
	}
	return errors.Join(errs...)
}

func (o Outcome) gather(to string, parts []string) error {
	for _, part := range parts {
		from := filepath.Join(part, filepath.FromSlash(o.Bundle))
		if sum, err := hashFile(from); err != nil || sum != o.SHA256 {
			continue
		}
		raw, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("copy the evidence of %s: %w", o.Cell, err)
		}
		return os.WriteFile(filepath.Join(to, filepath.FromSlash(o.Bundle)), raw, 0o644)
	}
	return fmt.Errorf("the evidence of %s is in none of the folders with the hash that it had: %s", o.Cell, o.Bundle)
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
