package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is a net.Conn over the stdin and stdout of a ProxyCommand.
type command struct {
	io.Reader
	io.WriteCloser
	cmd   *exec.Cmd
	said  *tail
	ended chan struct{} // closed when the command has ended
	once  sync.Once
}

// startCommand runs a ProxyCommand of ssh_config.
func startCommand(line string) (*command, error) {
	c := &command{cmd: exec.Command("/bin/sh", "-c", line), said: &tail{}, ended: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, and Close is for all of it
	c.cmd.Stderr = c.said
	var err error
	if c.WriteCloser, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe() // not StdoutPipe: Wait would close it under the reader
	if err != nil {
		return nil, err
	}
	c.Reader, c.cmd.Stdout = r, w
	err = c.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("ProxyCommand %q: %w", line, err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // how it ended matters only with what it said: see why
	}()
	return c, nil
}

// why adds what the command said to an error of the connection over it.
func (c *command) why(err error) error {
	select {
	case <-c.ended: // soon, if the error is that it ended
	case <-time.After(200 * time.Millisecond):
	}
	if said := c.said.String(); said != "" {
		return fmt.Errorf("%w: ProxyCommand says: %s", err, said)
	}
	return fmt.Errorf("%w (through ProxyCommand)", err)
}

func (c *command) Close() error {
	c.once.Do(func() {
		c.WriteCloser.Close()
		if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGTERM); err == nil {
			time.AfterFunc(2*time.Second, func() {
				select {
				case <-c.ended:
				default:
					_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it had its time; it may be gone by now
				}
			})
		}
		c.Reader.(*os.File).Close()
	})
	return nil
}

func (*command) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*command) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*command) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (*command) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (*command) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// tail keeps the last kilobyte written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-1024):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(string(bytes.TrimSpace(t.buf)), "\n", "; ")
}

// dialTCP opens the way to a machine that is reached without a proxy.
func dialTCP(ctx context.Context, s settings) (net.Conn, error) {
	d := net.Dialer{KeepAlive: keepaliveEvery}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(s.host, s.port))
}
