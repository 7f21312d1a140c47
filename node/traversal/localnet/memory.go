package localnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

const (
	// maxNetworks is how many networks are remembered: more than a person
	// carries a laptop to, and few enough to read the file.
	maxNetworks = 32
	// forgetAfter is when what was learned of a network is too old to be worth
	// a try: relays come and go, and firewalls are changed.
	forgetAfter = 90 * 24 * time.Hour
	// maxMemory is how long a file is read at most, in bytes. Ours are a tenth.
	maxMemory = 256 << 10
)

// Way is a way out of a network that has won there: it led to a reservation.
type Way struct {
	Relay     string        `json:"relay"`            // peer ID
	Addr      string        `json:"addr"`             // the multiaddr that was dialled
	Transport string        `json:"transport"`        // as in wire.Event
	Narrow    bool          `json:"narrow,omitempty"` // full-size packets vanish on this path
	When      time.Time     `json:"when"`             // it last won; zero in Put means now
	Took      time.Duration `json:"took_ns"`          // from the first dial to the reservation
}

// Memory is the way that won last, for each of the 32 networks that were used
// last, kept in a file. Where it is wrong nothing is lost but a dial: a file that
// is missing, or damaged, is an empty memory, and what cannot be written is kept
// until the process ends. It is safe for concurrent use, by one process: a node
// owns its folder. The zero Memory works, and keeps nothing on disk.
type Memory struct {
	// Path is the file, mode 0600, in a folder that exists; "" means no file. It
	// holds hashes of networks (see Fingerprint) and the relays used there.
	Path string
	Log  *slog.Logger // told of a file that cannot be used; nil means discard

	now func() time.Time // nil means time.Now

	mu       sync.Mutex // guards the fields below
	loaded   bool
	networks map[string]Way
}

// memoryFile is the file's shape.
type memoryFile struct {
	Version  int            `json:"version"`
	Networks map[string]Way `json:"networks"`
}

const memoryVersion = 1

// Get is the way that won in a network, if one did in the last 90 days. network
// is a Fingerprint; of "" nothing is known.
func (m *Memory) Get(network string) (Way, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	w, ok := m.networks[network]
	if !ok || m.time().Sub(w.When) > forgetAfter {
		return Way{}, false
	}
	return w, true
}

// Put remembers the way that won in a network, in place of what was there.
// Nothing is remembered of the network "".
func (m *Memory) Put(network string, w Way) {
	if network == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	if w.When.IsZero() {
		w.When = m.time()
	}
	w.When = w.When.UTC().Round(time.Millisecond) // without the monotonic clock
	m.networks[network] = w
	m.save()
}

// load reads the file, once. m.mu is held.
func (m *Memory) load() {
	if m.loaded {
		return
	}
	m.loaded, m.networks = true, map[string]Way{}
	if m.Path == "" {
		return
	}
	networks, err := readMemory(m.Path, m.time())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		m.log().Warn("what was remembered of networks cannot be used", "err", err)
	default:
		m.networks = networks
	}
}

// save writes the file. m.mu is held.
func (m *Memory) save() {
	trim(m.networks, m.time())
	if m.Path == "" {
		return
	}
	if err := writeMemory(m.Path, m.networks); err != nil {
		m.log().Warn("what is remembered of networks cannot be kept", "err", err)
	}
}

func readMemory(path string, now time.Time) (map[string]Way, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the networks: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMemory+1))
	if err != nil {
		return nil, fmt.Errorf("read the networks: %w", err)
	}
	networks, err := parseMemory(data, now)
	if err != nil {
		return nil, fmt.Errorf("read the networks from %s: %w", path, err)
	}
	return networks, nil
}

// parseMemory reads what writeMemory wrote, and refuses what it did not. What
// has expired, or is one too many, is left out.
func parseMemory(data []byte, now time.Time) (map[string]Way, error) {
	if len(data) > maxMemory {
		return nil, fmt.Errorf("more than %d bytes", maxMemory)
	}
	var file memoryFile
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(&file); err != nil {
		return nil, err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the end")
	}
	if file.Version != memoryVersion {
		return nil, fmt.Errorf("version %d, want %d", file.Version, memoryVersion)
	}
	for network, w := range file.Networks {
		if network == "" || w.Relay == "" || w.Addr == "" || w.Took < 0 {
			return nil, fmt.Errorf("network %q: not a way that was written here", network)
		}
		if w.When.After(now) { // the clock has been set back: it would never expire
			w.When = now
		}
		file.Networks[network] = w
	}
	if file.Networks == nil {
		file.Networks = map[string]Way{}
	}
	trim(file.Networks, now)
	return file.Networks, nil
}

// trim forgets what has expired, and the oldest of what is too many.
func trim(networks map[string]Way, now time.Time) {
	for network, w := range networks {
		if now.Sub(w.When) > forgetAfter {
			delete(networks, network)
		}
	}
	for len(networks) > maxNetworks {
		delete(networks, oldest(networks))
	}
}

func oldest(networks map[string]Way) string {
	out, found := "", false
	for network, w := range networks {
		// By name where the time is the same, so that it is always the same one.
		c := w.When.Compare(networks[out].When)
		if !found || c < 0 || c == 0 && network < out {
			out, found = network, true
		}
	}
	return out
}

// writeMemory replaces the file, whole or not at all.
func writeMemory(path string, networks map[string]Way) error {
	data, err := json.MarshalIndent(memoryFile{memoryVersion, networks}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the networks: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the networks: %w", err)
	}
	return nil
}

func (m *Memory) time() time.Time {
	if m.now != nil {
		return m.now()
	}
	return time.Now()
}

func (m *Memory) log() *slog.Logger {
	if m.Log != nil {
		return m.Log
	}
	return slog.New(slog.DiscardHandler)
}
