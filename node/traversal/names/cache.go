package names

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"github.com/miekg/dns"
)

const (
	// maxAge is how long an answer is of use. Who is found behind an address proves
	// to be the peer that was meant, so that an old one costs a dial at most; but
	// relays move within weeks.
	maxAge = 30 * 24 * time.Hour
	// maxSkew is how far in the future an answer may have been given: the clock was
	// wrong, and would keep that answer for ever.
	maxSkew = 24 * time.Hour
	// restampAfter is when an answer that is still the same is written again.
	restampAfter = time.Hour
	// maxCached and maxCacheFile (bytes) bound what others can make us keep. The
	// built-in list has about twenty names, with a few hundred bytes each.
	maxCached    = 256
	maxCacheFile = 256 << 10
	// maxCachedText is the longest text that is kept, in bytes. A /dnsaddr text has
	// up to about 200.
	maxCachedText = 1024
	// cacheVersion is the format's.
	cacheVersion = 1
)

// cache keeps the last good answers, in memory and in a file. What is wrong with
// the file costs the old answers and nothing else.
type cache struct {
	path string // "": memory only
	log  *slog.Logger

	mu      sync.Mutex // guards the fields below, and the file
	loaded  bool
	answers map[question]cached
}

// cached is an answer that was good.
type cached struct {
	Name   string    `json:"name"`
	Type   Type      `json:"type"`
	Values []string  `json:"values"`
	Since  time.Time `json:"since"`
}

// cacheFile is the file's content.
type cacheFile struct {
	Version int      `json:"version"`
	Answers []cached `json:"answers"`
}

// get returns the last good values, and when a source last gave them.
func (c *cache) get(q question) ([]string, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	a := c.answers[q]
	if !a.usable(time.Now()) {
		return nil, time.Time{}
	}
	return slices.Clone(a.Values), a.Since
}

// put keeps an answer, if it is a good one.
func (c *cache) put(q question, values []string) {
	a := cached{Name: q.name, Type: q.kind, Values: slices.Clone(values), Since: time.Now().UTC().Round(0)}
	if !a.usable(a.Since) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	old := c.answers[q]
	if slices.Equal(old.Values, values) && a.Since.Sub(old.Since).Abs() < restampAfter {
		return
	}
	c.answers[q] = a
	c.shrink()
	if err := c.store(); err != nil {
		c.log.Warn("keep answers about names", "file", c.path, "err", err)
	}
}

// shrink drops the oldest answer when there are too many.
func (c *cache) shrink() {
	for len(c.answers) > maxCached {
		delete(c.answers, c.newestFirst()[len(c.answers)-1].question())
	}
}

func (c *cache) newestFirst() []cached {
	return slices.SortedFunc(maps.Values(c.answers), func(a, b cached) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
}

func (c *cache) load() {
	if c.loaded {
		return
	}
	c.loaded, c.answers = true, map[question]cached{}
	if c.path == "" {
		return
	}
	answers, err := readCache(c.path, time.Now())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("answers about names from last time are lost", "file", c.path, "err", err)
	}
	for _, a := range answers {
		c.answers[a.question()] = a
	}
}

// store replaces the file in one step.
func (c *cache) store() error {
	if c.path == "" {
		return nil
	}
	raw, err := formatCache(c.newestFirst())
	if err != nil {
		return err
	}
	return renameio.WriteFile(c.path, raw, 0o600)
}

func (a cached) question() question { return question{a.Name, a.Type} }

// usable tells whether an answer is one that we could have kept, and is not too
// old.
func (a cached) usable(now time.Time) bool {
	_, isName := dns.IsDomainName(a.Name)
	age := now.Sub(a.Since)
	if !isName || len(a.Values) == 0 || len(a.Values) > maxValues || age > maxAge || age < -maxSkew {
		return false
	}
	if looksMadeUp(a.question(), a.Values) {
		return false
	}
	for _, v := range a.Values {
		if len(v) > maxCachedText || !utf8.ValidString(v) || a.Type == IP && !isIP(v) {
			return false
		}
	}
	return a.Type == IP || a.Type == TXT
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func readCache(path string, now time.Time) ([]cached, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCacheFile+1))
	if err != nil {
		return nil, err
	}
	return parseCache(raw, now)
}

// parseCache reads a cache file. Answers in it that are of no use are left out.
func parseCache(raw []byte, now time.Time) ([]cached, error) {
	if len(raw) > maxCacheFile {
		return nil, fmt.Errorf("longer than %d bytes", maxCacheFile)
	}
	var file cacheFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	if file.Version != cacheVersion {
		return nil, fmt.Errorf("version %d, not %d", file.Version, cacheVersion)
	}
	file.Answers = slices.DeleteFunc(file.Answers, func(a cached) bool { return !a.usable(now) })
	return file.Answers[:min(len(file.Answers), maxCached)], nil
}

// formatCache writes what fits into a cache file, the first answers first.
func formatCache(answers []cached) ([]byte, error) {
	const frame = len(`{"version":1,"answers":[]}`)
	size := frame
	for i, a := range answers {
		raw, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		if size += len(raw) + len(","); size > maxCacheFile {
			answers = answers[:i]
			break
		}
	}
	return json.Marshal(cacheFile{cacheVersion, answers})
}
