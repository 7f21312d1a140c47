package remote

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Config tells how machines are reached. The zero Config is what ssh would do.
type Config struct {
	SSHConfig  string        // an ssh_config file; empty means the user's and the system's
	KnownHosts string        // a known_hosts file; empty means those that ssh_config names
	Timeout    time.Duration // of one attempt to connect and log in; 0 means 15s. ConnectTimeout of ssh_config goes before it
	Log        *slog.Logger  // nil means discard
}

// Local is the target that means this machine, without SSH.
const Local = "local"

// defaultTimeout bounds one attempt to connect: a few round trips, and the
// minutes that a firewall's silence would take otherwise.
const defaultTimeout = 15 * time.Second

func (c Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return defaultTimeout
}

func (c Config) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Dial reaches a machine: Local, an alias of an ssh_config, or user@host[:port].
// Its errors are, among others, *UnknownHost, *ChangedHost, *Refused, *NoSFTP
// and ErrUnreachable.
func Dial(ctx context.Context, target string, cfg Config) (Remote, error) {
	if target == Local {
		return newLocal()
	}
	s, err := settingsOf(ctx, cfg, target)
	if err != nil {
		return nil, err
	}
	m := newMachine(cfg, s)
	if err := m.begin(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// begin makes the first connection, and finds out what must be known of the
// machine before it is used.
func (m *machine) begin(ctx context.Context) error {
	l, err := m.connected(ctx, 1)
	if err != nil {
		return err
	}
	m.hostKey = l.hostKey
	client, err := l.files()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.close() }) // SFTP has no deadlines
	defer stop()
	if m.home, err = client.RealPath("."); err != nil {
		return fmt.Errorf("ask %s for its home directory: %w", m.s.target, err)
	}
	return nil
}
