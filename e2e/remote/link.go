package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

const (
	// keepaliveEvery is below the minutes after which NATs and firewalls forget
	// a silent connection.
	keepaliveEvery = 15 * time.Second
	// keepaliveMissed answers in a row make a connection dead.
	keepaliveMissed = 3
	// maxHops bounds ProxyJump, which may lead in circles.
	maxHops = 8
)

// link is one SSH connection, with what it goes through.
type link struct {
	client  *ssh.Client
	target  string
	hostKey string
	below   io.Closer     // the connections it goes through; may be nil
	dead    chan struct{} // closed when the connection has ended

	mu   sync.Mutex // guards sftp
	sftp *sftp.Client
}

// openLink connects and logs in, within the settings' timeout.
func openLink(ctx context.Context, cfg Config, s settings, hops int) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %v", s.timeout))
	defer cancel()
	host, err := newHostKeys(s)
	if err != nil {
		return nil, err
	}
	conn, below, err := openConn(ctx, cfg, s, hops)
	if err != nil {
		return nil, err
	}
	l, err := logIn(ctx, s, host, conn)
	if err != nil {
		conn.Close()
		if below != nil {
			below.Close()
		}
		return nil, err
	}
	l.below = below
	go l.watch()
	go l.keepAlive(keepaliveEvery, keepaliveMissed)
	return l, nil
}

// openConn opens what SSH is spoken over: through other hosts, through a
// command, or directly.
func openConn(ctx context.Context, cfg Config, s settings, hops int) (conn net.Conn, below io.Closer, err error) {
	switch {
	case s.proxyJump != "":
		return jump(ctx, cfg, s, hops)
	case s.proxyCommand != "":
		conn, err = startCommand(s.proxyCommand)
	default:
		conn, err = dialTCP(ctx, s)
	}
	if err != nil {
		return nil, nil, unreachable(ctx, s, err)
	}
	return conn, nil, nil
}

// jump connects through the hops of ProxyJump. The last of them is the one that
// reaches the machine; it is itself reached through those before it.
func jump(ctx context.Context, cfg Config, s settings, hops int) (net.Conn, io.Closer, error) {
	if hops == 0 {
		return nil, nil, fmt.Errorf("connect to %s: ProxyJump leads over more than %d hosts", s.target, maxHops)
	}
	before, last := "", s.proxyJump
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		before, last = last[:i], last[i+1:]
	}
	via, err := settingsOf(ctx, cfg, strings.TrimSpace(last))
	if err != nil {
		return nil, nil, fmt.Errorf("ProxyJump of %s: %w", s.target, err)
	}
	if before != "" {
		via.proxyJump, via.proxyCommand = before, ""
	}
	l, err := openLink(ctx, cfg, via, hops-1)
	if err != nil {
		return nil, nil, fmt.Errorf("ProxyJump of %s: %w", s.target, err)
	}
	conn, err := l.client.DialContext(ctx, "tcp", net.JoinHostPort(s.host, s.port))
	if err != nil {
		l.close()
		return nil, nil, unreachable(ctx, s, fmt.Errorf("from %s: %w", via.target, err))
	}
	return conn, closer(l.close), nil
}

// logIn speaks SSH over conn.
func logIn(ctx context.Context, s settings, host *hostKeys, conn net.Conn) (*link, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	keys := collectKeys(s)
	defer keys.close()
	c, channels, requests, err := ssh.NewClientConn(conn, host.addr, &ssh.ClientConfig{
		User:              s.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(keys.signers...)},
		HostKeyCallback:   host.check,
		HostKeyAlgorithms: host.algorithms(),
	})
	if !stop() && err == nil {
		c.Close()
		err = context.Cause(ctx)
	}
	if err == nil {
		return &link{client: ssh.NewClient(c, channels, requests), target: s.target, hostKey: host.checked, dead: make(chan struct{})}, nil
	}
	if host.refusal != nil {
		return nil, host.refusal
	}
	if cmd, ok := conn.(*command); ok {
		err = cmd.why(err)
	}
	if host.checked == "" || ctx.Err() != nil || isBroken(err) {
		return nil, unreachable(ctx, s, err)
	}
	return nil, &Refused{Target: s.target, User: s.user, Tried: keys.offered, Notes: keys.notes, Cause: errors.Unwrap(err)}
}

// unreachable is the error of a connection that did not come about.
func unreachable(ctx context.Context, s settings, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	at := net.JoinHostPort(s.host, s.port)
	if s.host == s.target && s.port == "22" {
		at = "port 22"
	}
	return fmt.Errorf("connect to %s (%s): %w: %w", s.target, at, ErrUnreachable, err)
}

// isBroken tells whether an error is of the line, not of what was said over it.
// Through a ProxyCommand the line is a pipe, which ends as a file does.
func isBroken(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrClosed) || errors.As(err, &network)
}

// watch waits for the end of the connection, and takes down what it went through.
func (l *link) watch() {
	_ = l.client.Wait() // why it ended is told by what was using it
	close(l.dead)
	if l.below != nil {
		l.below.Close()
	}
}

// keepAlive asks for a sign of life now and then, and closes a connection that
// has given none for as long as missed of them take.
func (l *link) keepAlive(every time.Duration, missed int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.dead:
			return
		case <-tick.C:
		}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil) // any answer is one; an error ends the connection by itself
		}()
		select {
		case <-answered:
		case <-l.dead:
			return
		case <-time.After(time.Duration(missed) * every):
			l.close()
			return
		}
	}
}

func (l *link) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// close ends the connection; watch does the rest.
func (l *link) close() error { return l.client.Close() }

// files gives the SFTP session of this connection, which is opened when it is
// first wanted, and again when it broke.
func (l *link) files() (*sftp.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sftp != nil {
		return l.sftp, nil
	}
	stop := time.AfterFunc(sftpTimeout, func() { l.close() })
	client, err := l.openFiles()
	inTime := stop.Stop()
	switch {
	case err == nil:
		l.sftp = client
		return client, nil
	case !inTime:
		return nil, &NoSFTP{Target: l.target, Cause: fmt.Errorf("nothing within %v", sftpTimeout)}
	case l.isDying():
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return nil, &NoSFTP{Target: l.target, Cause: err}
}

// openFiles opens an SFTP session.
func (l *link) openFiles() (*sftp.Client, error) {
	session, err := askSession(context.Background(), l) // ends with the connection
	if err != nil {
		return nil, err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return sftp.NewClientPipe(out, in)
}

// isDying tells whether what went wrong just now was the end of the connection,
// which shows in a moment.
func (l *link) isDying() bool {
	select {
	case <-l.dead:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// lostFiles forgets an SFTP session that broke, so that the next call opens
// another, of a new connection if the whole of it broke.
func (l *link) lostFiles(client *sftp.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sftp == client {
		client.Close()
		l.sftp = nil
	}
	l.isDying() // so that the next call knows
}

// sftpTimeout bounds the opening of the SFTP subsystem. A login shell that waits
// for somebody to type never gets there.
const sftpTimeout = 15 * time.Second

type closer func() error

func (c closer) Close() error { return c() }
