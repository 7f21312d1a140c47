package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	// headStart is what the system's resolver gets before others are asked. Nearly
	// every resolver that works answers sooner. Without a race a dead name cost
	// 20 s, measured with two silent servers.
	headStart = 300 * time.Millisecond
	// lateFor is how long a resolver that was late gets no head start any more.
	lateFor = time.Minute
	// secondWave is how long the first DoH and DoT servers are waited for before
	// all others are asked: four round trips (a proxy's CONNECT, TCP, TLS, the
	// question) of a slow mobile link.
	secondWave = 1500 * time.Millisecond
	// staleAfter is when the last good answer is used (RFC 8767, section 5).
	staleAfter = 1800 * time.Millisecond
	// settleAfter is how long an answer that is not good by itself waits for a
	// better one: four round trips by satellite.
	settleAfter = 3 * time.Second
	// lookupTimeout bounds a lookup. The system's resolver takes 20 s to say that
	// two servers are silent; nothing comes of waiting for that.
	lookupTimeout = 10 * time.Second

	// agreement is how many servers that prove who they are have to say that there
	// is no such name before those that have not answered yet are left alone.
	agreement = 2
	// maxValues bounds what one hostile name can make us handle.
	maxValues = 128
)

// Sources that are no servers of ours.
const (
	fromSystem = "system"
	fromCache  = "cache"
)

// source is somebody who can be asked.
type source struct {
	name      string
	proven    bool // shows a certificate
	ask       func(context.Context, question) ([]string, error)
	closeIdle func()
}

// wave is a set of sources that are asked at once: so long after the wave before
// it, or as soon as all of that one have failed.
type wave struct {
	after   time.Duration
	sources []source
}

// race is one lookup.
type race struct {
	question
	waves []wave   // that have not begun
	known []string // the last good values
	since time.Time

	entrants []*entrant
	last     int         // index of the first entrant of the last wave
	in       chan result // has room for all, so that nobody who is late has to wait
}

// entrant is a source that was asked.
type entrant struct {
	Answer
	proven bool
	began  time.Time
	done   bool
}

type result struct {
	of     *entrant
	values []string
	err    error
	at     time.Time
}

// run asks until it is settled what the answer is, and returns nil when there is
// none; failure then says why. What became of each source is in c.entrants.
func (c *race) run(ctx context.Context) *Answer {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	sources := 0
	for _, w := range c.waves {
		sources += len(w.sources)
	}
	c.in = make(chan result, sources)

	next, stale := c.begin(asking), time.After(staleAfter)
	var settle <-chan time.Time // from the first answer on that is not good by itself
	for !c.settled() {
		if len(c.waves) > 0 && c.openFrom(c.last) == 0 && c.denials() == 0 {
			next = c.begin(asking)
			continue
		}
		select {
		case r := <-c.in:
			c.note(r)
			if settle == nil && (r.of.Doubtful || isNotFound(r.of.Err)) {
				settle = time.After(settleAfter)
			}
		case <-next:
			next = nil
			if c.denials() == 0 {
				next = c.begin(asking)
			}
		case <-stale:
			if len(c.known) > 0 && c.denials() == 0 {
				return c.decide(ctx)
			}
		case <-settle:
			return c.decide(ctx)
		case <-asking.Done():
			return c.decide(ctx)
		}
	}
	return c.decide(ctx)
}

// begin starts the next wave, and returns when it is time for the one after it.
func (c *race) begin(ctx context.Context) <-chan time.Time {
	w := c.waves[0]
	c.waves, c.last = c.waves[1:], len(c.entrants)
	for _, s := range w.sources {
		e := &entrant{proven: s.proven, began: time.Now()}
		e.Name, e.Type, e.Source = c.name, c.kind, s.name
		c.entrants = append(c.entrants, e)
		go func() {
			values, err := s.ask(ctx, c.question)
			c.in <- result{e, values, err, time.Now()}
		}()
	}
	if len(c.waves) == 0 {
		return nil
	}
	return time.After(c.waves[0].after)
}

// note enters what a source said.
func (c *race) note(r result) {
	e := r.of
	e.done, e.Took = true, r.at.Sub(e.began)
	switch {
	case r.err != nil:
		e.Err = fmt.Errorf("%s: %w", e.Source, r.err)
	case len(r.values) == 0:
		e.Err = fmt.Errorf("%s: %w", e.Source, notFound(c.question, e.Source))
	default:
		e.Values = r.values[:min(len(r.values), maxValues)]
		e.Doubtful = !e.proven && looksMadeUp(c.question, e.Values)
	}
}

// settled tells that waiting for more answers is of no use.
func (c *race) settled() bool {
	open := c.openFrom(0)
	if c.good() != nil || open == 0 && len(c.waves) == 0 {
		return true
	}
	// A name that only the local network knows is one that the world denies, so
	// the system's word is waited for.
	d := c.denials()
	return c.systemSpoke() && (d >= agreement || d > 0 && open == 0)
}

// decide is the answer from what is known now. What a network made up is used
// where the world denies the name (it may be a name of that network) or cannot
// be asked; before the latter comes what was good once.
func (c *race) decide(ctx context.Context) *Answer {
	answer := c.good()
	switch {
	case answer != nil, ctx.Err() != nil:
	case len(c.known) > 0 && c.denials() == 0:
		e := &entrant{done: true}
		e.Answer = Answer{Name: c.name, Type: c.kind, Source: fromCache, Values: c.known, Since: c.since}
		c.entrants = append(c.entrants, e)
		answer = &e.Answer
	default:
		answer = c.doubtful()
	}
	c.giveUp(ctx, answer != nil)
	if answer != nil {
		answer.Used = true
	}
	return answer
}

// giveUp enters why those who have not answered are not waited for.
func (c *race) giveUp(ctx context.Context, answered bool) {
	for _, e := range c.entrants {
		if e.done {
			continue
		}
		e.Took = time.Since(e.began)
		switch {
		case answered:
			e.Err = fmt.Errorf("%s: not waited for: %w", e.Source, context.Canceled)
		case ctx.Err() != nil:
			e.Err = fmt.Errorf("%s: %w", e.Source, ctx.Err())
		default:
			e.Err = fmt.Errorf("%s: %w", e.Source, &net.DNSError{Err: "no answer in time", Name: c.name, IsTimeout: true})
		}
	}
}

// failure is why there is no answer: a *net.DNSError with IsNotFound where a
// server that proves who it is says so, else all that went wrong.
func (c *race) failure(ctx context.Context) error {
	if ctx.Err() == nil && c.denials() > 0 {
		var who []string
		for _, e := range c.entrants {
			if isNotFound(e.Err) {
				who = append(who, e.Source)
			}
		}
		return notFound(c.question, strings.Join(who, ", "))
	}
	all := make(failures, 0, len(c.entrants))
	for _, e := range c.entrants {
		all = append(all, e.Err)
	}
	return fmt.Errorf("look up %s: %w", c.question, all)
}

// openFrom counts the entrants from an index on that have not answered.
func (c *race) openFrom(i int) int {
	n := 0
	for _, e := range c.entrants[i:] {
		if !e.done {
			n++
		}
	}
	return n
}

func (c *race) good() *Answer {
	for _, e := range c.entrants {
		if e.done && e.Err == nil && !e.Doubtful {
			return &e.Answer
		}
	}
	return nil
}

func (c *race) doubtful() *Answer {
	for _, e := range c.entrants {
		if e.done && e.Doubtful {
			return &e.Answer
		}
	}
	return nil
}

// denials counts the servers that prove who they are and say that there is no
// such name.
func (c *race) denials() int {
	n := 0
	for _, e := range c.entrants {
		if e.proven && isNotFound(e.Err) {
			n++
		}
	}
	return n
}

// systemSpoke tells that there is nothing more to come from the system.
func (c *race) systemSpoke() bool {
	for _, e := range c.entrants {
		if !e.proven && !e.done {
			return false
		}
	}
	return true
}

// failures is several errors in one line.
type failures []error

func (f failures) Unwrap() []error { return f }

func (f failures) Error() string {
	if len(f) == 0 {
		return "nobody to ask"
	}
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func notFound(q question, server string) *net.DNSError {
	return &net.DNSError{Err: "no such name, or no " + string(q.kind), Name: q.name, Server: server, IsNotFound: true}
}

func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}
