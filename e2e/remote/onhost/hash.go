package onhost

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// File is a file's content, as its machine sees it.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`   // bytes
}

// Hash reads a file and hashes it. Size is that of what was hashed, also when
// the file grows meanwhile.
func Hash(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return File{}, fmt.Errorf("hash: %w", err)
	}
	return File{Path: tilde(name), SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}
