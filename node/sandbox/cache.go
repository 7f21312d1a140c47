package sandbox

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// moduleKey names a module by the SHA-256 of its bytes.
type moduleKey = [sha256.Size]byte

func keyOf(code []byte) moduleKey { return sha256.Sum256(code) }

// maxKept is the longest module that is kept while unused, in bytes. What is
// longer is mostly data, and so quickly compiled again.
const maxKept = 1 << 20

// moduleCache keeps compiled modules, so that compiling is paid for once. Jobs
// that ask for a module while it is being compiled wait for that one compiler.
type moduleCache struct {
	most      int           // modules kept while unused
	compilers chan struct{} // one element for each compiler under way

	mu      sync.Mutex // guards the fields below and those of the entries
	entries map[moduleKey]*cacheEntry
	unused  *list.List // of *cacheEntry without users, the most recent first
	closed  bool
	working sync.WaitGroup // compilers; Add under mu while not closed
}

type cacheEntry struct {
	key   moduleKey
	size  int           // of the code
	ready chan struct{} // closed when module and err are set
	mod   *module
	err   error
	users int
	place *list.Element // in unused; nil while used
}

func newModuleCache(most, compilers int) *moduleCache {
	return &moduleCache{
		most:      most,
		compilers: make(chan struct{}, compilers),
		entries:   map[moduleKey]*cacheEntry{},
		unused:    list.New(),
	}
}

// get returns the compiled module; call release when done with it. A compiler
// cannot be stopped: when ctx ends before it does, get returns the cause, and
// the compiler goes on in its place, which no other compiler gets until then.
func (c *moduleCache) get(ctx context.Context, code []byte) (mod *module, release func(), err error) {
	e, err := c.use(ctx, keyOf(code), code)
	if err != nil {
		return nil, nil, err
	}
	release = func() { c.release(e) }
	select {
	case <-e.ready:
	case <-ctx.Done():
		release()
		return nil, nil, fmt.Errorf("compile the module: %w", context.Cause(ctx))
	}
	if e.err != nil {
		release()
		return nil, nil, e.err
	}
	return e.mod, release, nil
}

// use finds the entry or starts a compiler for it, and counts a user in.
func (c *moduleCache) use(ctx context.Context, key moduleKey, code []byte) (*cacheEntry, error) {
	if e := c.find(key); e != nil {
		return e, nil
	}
	select {
	case c.compilers <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a compiler: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil || c.closed { // meanwhile
		<-c.compilers
		if c.closed {
			return nil, errClosed
		}
		c.usedLocked(e)
		return e, nil
	}
	e := &cacheEntry{key: key, size: len(code), ready: make(chan struct{}), users: 2} // the caller and the compiler
	c.entries[key] = e
	c.working.Add(1)
	go c.compile(e, code)
	return e, nil
}

func (c *moduleCache) find(key moduleKey) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e != nil {
		c.usedLocked(e)
	}
	return e
}

func (c *moduleCache) usedLocked(e *cacheEntry) {
	e.users++
	if e.place != nil {
		c.unused.Remove(e.place)
		e.place = nil
	}
}

// compile fills an entry. A panic of the compiler is the module's failure.
func (c *moduleCache) compile(e *cacheEntry, code []byte) {
	defer c.working.Done()
	defer func() { <-c.compilers }()
	defer c.release(e)
	defer close(e.ready)
	defer func() {
		if p := recover(); p != nil {
			e.err = fmt.Errorf("%w: the compiler failed: %v", errModule, p)
		}
	}()
	// Not under a job's context: others may wait for the same module.
	e.mod, e.err = compile(context.Background(), e.key, code)
}

// release counts a user out. An entry without users is kept for later, unless
// it failed or is large; the one that was unused for longest makes room.
func (c *moduleCache) release(e *cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.users--; e.users > 0 {
		return
	}
	e.place = c.unused.PushFront(e)
	// Closing an unused module cannot fail in a way that matters to a job, and
	// one that failed has nothing to close.
	if e.err != nil || e.size > maxKept {
		_ = c.dropLocked(e)
	}
	for c.unused.Len() > c.most {
		_ = c.dropLocked(c.unused.Back().Value.(*cacheEntry))
	}
}

func (c *moduleCache) dropLocked(e *cacheEntry) error {
	c.unused.Remove(e.place)
	delete(c.entries, e.key)
	if e.mod == nil {
		return nil
	}
	return e.mod.close(context.Background())
}

// wait starts no more compilers, and waits for those under way until ctx ends.
func (c *moduleCache) wait(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() { c.working.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for compilers: %w", context.Cause(ctx))
	}
}

// close frees all modules. Neither jobs nor compilers are under way any more.
func (c *moduleCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for c.unused.Len() > 0 {
		errs = append(errs, c.dropLocked(c.unused.Back().Value.(*cacheEntry)))
	}
	return errors.Join(errs...)
}
