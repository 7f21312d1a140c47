package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Identity returns the peer ID of the node that lives in dir, and gives it one
// when it has none yet: an Ed25519 key, created once, readable by its owner
// only. A key that others can read is refused.
func Identity(dir string) (peer.ID, error) {
	key, err := loadIdentity(dir)
	if err != nil {
		return "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("peer ID of %s: %w", filepath.Join(dir, identityFile), err)
	}
	return id, nil
}

func loadIdentity(dir string) (crypto.PrivKey, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, identityFile)
	key, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createIdentity(path, os.Link)
	}
	return key, err
}

func readIdentity(path string) (crypto.PrivKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if err := refuseOpenMode(path, info, 0o600); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	raw := make([]byte, 4096) // an Ed25519 key takes 68 bytes
	n, err := f.Read(raw)
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w", path, err)
	}
	key, err := crypto.UnmarshalPrivateKey(raw[:n])
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w", path, err)
	}
	return key, nil
}

// createIdentity writes a new key beside path and links it there, so that a
// crash leaves no half key and two starts at once agree on one.
func createIdentity(path string, link func(from, to string) error) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), identityFile+".*") // 0600
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	err = link(tmp.Name(), path)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		err = writeNew(path, raw) // FAT, some network shares: no hard links
	}
	if errors.Is(err, fs.ErrExist) {
		return readIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	return key, nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
