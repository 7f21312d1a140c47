package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"strings"
	"time"
)

const (
	// sshd's MaxSessions is 10 per connection; one is SFTP's, and one is for
	// ending what runs in another.
	maxSessions = 8
	// A connection that broke is made again this often, within this time: what
	// was wrong for longer is not a hiccup.
	reconnectTries  = 3
	reconnectWithin = 10 * time.Second
	reconnectPause  = time.Second
)

// machine is a Remote over SSH: one connection at a time, made again when it broke.
type machine struct {
	cfg      Config
	s        settings
	log      *slog.Logger
	home     string
	hostKey  string
	sessions chan struct{} // as many as may run at once
	kills    chan struct{} // one at once

	turn   chan struct{} // holds one token, which guards the fields below; a channel, because waiting for it must be cancellable
	link   *link         // nil before the first connection
	closed bool
}

func newMachine(cfg Config, s settings) *machine {
	m := &machine{cfg: cfg, s: s, log: cfg.log().With("host", s.target), sessions: make(chan struct{}, maxSessions), kills: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	return m
}

func (m *machine) Home() string    { return m.home }
func (m *machine) HostKey() string { return m.hostKey }

func (m *machine) Close() error {
	<-m.turn
	defer func() { m.turn <- struct{}{} }()
	m.closed = true
	if m.link == nil || m.link.isDead() {
		return nil
	}
	if err := m.link.close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the connection to %s: %w", m.s.target, err)
	}
	return nil
}

// connected gives a connection that stands, as far as is known, and makes one if
// there is none.
func (m *machine) connected(ctx context.Context, tries int) (*link, error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: %w", m.s.target, context.Cause(ctx))
	}
	defer func() { m.turn <- struct{}{} }()
	switch {
	case m.closed:
		return nil, fmt.Errorf("connect to %s: %w", m.s.target, net.ErrClosed)
	case m.link != nil && !m.link.isDead():
		return m.link, nil
	case m.link != nil:
		m.log.Warn("the SSH connection was lost; connecting again")
	}
	l, err := m.dial(ctx, tries)
	if err == nil {
		m.link = l
	}
	return l, err
}

// dial tries to connect, up to tries times. An answer that will not change (a
// strange host key, a refused login) ends it at once.
func (m *machine) dial(ctx context.Context, tries int) (*link, error) {
	if tries > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, reconnectWithin)
		defer cancel()
	}
	for {
		l, err := openLink(ctx, m.cfg, m.s, maxHops)
		tries--
		if err == nil || tries == 0 || !errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return l, err
		}
		m.log.Debug("connect", "err", err)
		pause(ctx, reconnectPause)
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// using calls do with a connection, and calls it again with a new one when the
// one it had turned out to be dead before do began anything.
func (m *machine) using(ctx context.Context, do func(*link) (begun bool, err error)) error {
	for range 2 {
		l, err := m.connected(ctx, reconnectTries)
		if err != nil {
			return err
		}
		begun, err := do(l)
		if begun || err == nil || !l.isDead() && !errors.Is(err, ErrLost) {
			return err
		}
	}
	return fmt.Errorf("use %s: %w, twice", m.s.target, ErrLost)
}

// abs is a path as SFTP takes it: ~/ is the home directory, and what is not
// absolute starts there.
func (m *machine) abs(p string) string { return absolute(m.home, p) }

func absolute(home, p string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return path.Join(home, rest)
	}
	if path.IsAbs(p) {
		return p
	}
	return path.Join(home, p)
}
