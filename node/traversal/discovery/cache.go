package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// CacheFile is the name of the cache below Config.Dir.
	CacheFile = "relays.json"

	cacheVersion = 1
	maxCached    = 64
	maxCacheFile = 1 << 20 // what is read of it
)

// cacheJSON is the file. A human may read and edit it.
type cacheJSON struct {
	Version int          `json:"version"`
	Relays  []cachedJSON `json:"relays"`
}

type cachedJSON struct {
	Peer     string    `json:"peer"`
	Addrs    []string  `json:"addrs"`             // multiaddrs, without /p2p
	Heard    time.Time `json:"heard"`             // when somebody last spoke of it
	Reserved time.Time `json:"reserved,omitzero"` // when it last gave a reservation
	Way      string    `json:"way,omitempty"`     // where that was
	Record   []byte    `json:"record,omitempty"`  // signed by the relay
}

// saveCache writes the best relays to dir, at once or not at all.
func saveCache(dir string, relays []known) error {
	out := cacheJSON{Version: cacheVersion, Relays: []cachedJSON{}}
	for _, k := range relays[:min(len(relays), maxCached)] {
		out.Relays = append(out.Relays, toJSON(k))
	}
	data, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		return fmt.Errorf("save relays: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, CacheFile), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save relays: %w", err)
	}
	return nil
}

func toJSON(k known) cachedJSON {
	c := cachedJSON{Peer: k.ID.String(), Heard: k.heard.UTC(), Record: k.record}
	for _, a := range k.Addrs {
		c.Addrs = append(c.Addrs, a.String())
	}
	if !k.granted.IsZero() {
		c.Reserved = k.granted.UTC()
	}
	if k.way != nil {
		c.Way = k.way.String()
	}
	return c
}

// loadCache reads the relays in dir that are still worth a try. It leaves out
// what it cannot understand; no file is no error.
func loadCache(dir string, rules policy, now time.Time) ([]known, error) {
	path := filepath.Join(dir, CacheFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load relays: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCacheFile))
	if err != nil {
		return nil, fmt.Errorf("load relays: %w", err)
	}
	return parseCache(path, data, rules, now)
}

func parseCache(path string, data []byte, rules policy, now time.Time) ([]known, error) {
	var in cacheJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("load relays: %s: %w", path, err)
	}
	if in.Version != cacheVersion {
		return nil, fmt.Errorf("load relays: %s: version %d, this node reads %d", path, in.Version, cacheVersion)
	}
	var out []known
	var problems []error
	for i, c := range in.Relays[:min(len(in.Relays), maxCached)] {
		k, err := c.known(rules, now)
		if err != nil {
			problems = append(problems, fmt.Errorf("load relays: %s: relays[%d]: %w", path, i, err))
			continue
		}
		if last := latest(k.heard, k.granted); now.Sub(last) < forgetGranted && len(k.Addrs) > 0 {
			out = append(out, k)
		}
	}
	return out, errors.Join(problems...)
}

// known checks an entry like a stranger's word, but where it gave a reservation:
// then its addresses may be private ones, since it was the user who named them.
func (c cachedJSON) known(rules policy, now time.Time) (known, error) {
	id, err := peer.Decode(c.Peer)
	if err != nil {
		return known{}, fmt.Errorf("peer: %w", err)
	}
	k := known{AddrInfo: peer.AddrInfo{ID: id}, source: Cache, heard: earlier(c.Heard, now), granted: earlier(c.Reserved, now)}
	for _, text := range c.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return known{}, fmt.Errorf("addrs: %w", err)
		}
		k.Addrs = append(k.Addrs, a)
	}
	if c.Way != "" {
		if k.way, err = ma.NewMultiaddr(c.Way); err != nil {
			return known{}, fmt.Errorf("way: %w", err)
		}
	}
	if k.granted.IsZero() {
		k.AddrInfo = rules.of(k.AddrInfo)
	}
	if len(k.Addrs) > MaxAddrs {
		k.Addrs = k.Addrs[:MaxAddrs]
	}
	if len(c.Record) > 0 {
		s, err := openRecord(c.Record)
		if err != nil {
			return known{}, err
		}
		if s.ID != id {
			return known{}, fmt.Errorf("record: is about %s", s.ID)
		}
		k.record, k.seq = s.envelope, s.seq
	}
	return k, nil
}

// earlier keeps times of a clock that was ahead out of the future.
func earlier(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}
