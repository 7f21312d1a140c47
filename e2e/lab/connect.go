//go:build linux

package lab

import (
	"fmt"
	"io"
	"net"
)

// connect joins in and out to the unix socket at path until the other side
// closes: the ProxyCommand of the lab's ssh_config.
func connect(path string, in io.Reader, out io.Writer) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("connect to the lab's host: %w", err)
	}
	defer c.Close()
	go func() {
		_, _ = io.Copy(c, in) // an end on either side ends the session; SSH tells which
		_ = c.CloseWrite()
	}()
	if _, err := io.Copy(out, c); err != nil {
		return fmt.Errorf("read from the lab's host: %w", err)
	}
	return nil
}
