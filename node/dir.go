package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files of one node, below its directory.
const (
	identityFile    = "identity.key"    // private key, libp2p's protobuf encoding
	certificateFile = "certificate.pem" // self-signed, with its key; can be lost
	acmeDir         = "acme"            // account and certificates of known authorities; costs a request to make again
	lockFile        = "lock"            // held (flock) while the node runs
	eventsFile      = "events.jsonl"    // every event, one JSON object a line, appended; see eventFile
	socketFile      = "node.sock"       // the local API
	waysFile        = "ways.json"       // the way that won, per network; see localnet.Memory
	namesFile       = "names.json"      // the last good answers about names; see names.Resolver
)

// ErrLocked tells that another node runs in the same directory.
var ErrLocked = errors.New("another node runs in this directory")

// makeDir makes a node's directory, 0700, or refuses one that others can enter:
// whoever can write there can replace the identity.
func makeDir(dir string) error {
	if dir == "" {
		return errors.New("node directory: no path given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make node directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("node directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("node directory %s: not a directory", dir)
	}
	return refuseOpenMode(dir, info, 0o700)
}

// refuseOpenMode fails where group or others have any right on a file.
func refuseOpenMode(path string, info fs.FileInfo, want fs.FileMode) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, which lets other users in: chmod %04o it", path, mode, want)
	}
	return nil
}

// lockDir keeps a second node out of dir until the file is closed, which the
// kernel does at the latest when the process ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, ErrLocked)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
