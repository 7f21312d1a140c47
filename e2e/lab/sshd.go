//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// handshakeTimeout is OpenSSH's LoginGraceTime cut short: nobody types here.
	handshakeTimeout = 30 * time.Second
	// maxSessions of one connection, as OpenSSH has it by default, so that what
	// works in the lab works on real machines.
	maxSessions = 10
)

// sshServer is a host's SSH server: sessions and files, and no forwarding of any
// kind, since it must not be a path between hosts. It behaves as OpenSSH's does
// where the two can be told apart from outside.
type sshServer struct {
	config *ssh.ServerConfig
	env    []string // of a login
	reaper *reaper
	log    *slog.Logger
}

func newSSHServer(o hostOrders, r *reaper, log *slog.Logger) (*sshServer, error) {
	key, err := ssh.ParsePrivateKey([]byte(o.Machine.HostKey))
	if err != nil {
		return nil, fmt.Errorf("read the host key: %w", err)
	}
	client, _, _, _, err := ssh.ParseAuthorizedKey([]byte(o.Authorized))
	if err != nil {
		return nil, fmt.Errorf("read the authorized key: %w", err)
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			if c.User() != login || !bytes.Equal(k.Marshal(), client.Marshal()) {
				return nil, errors.New("permission denied")
			}
			return nil, nil
		},
	}
	config.AddHostKey(key)
	return &sshServer{config: config, env: o.environment(), reaper: r, log: log}, nil
}

func (s *sshServer) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept an SSH connection: %w", err)
		}
		go s.connection(c)
	}
}

func (s *sshServer) connection(c net.Conn) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		s.log.Debug("SSH handshake failed", "err", err)
		return
	}
	defer conn.Close()
	if err := c.SetDeadline(time.Time{}); err != nil {
		return
	}
	// Answers every global request with a failure: to tcpip-forward and
	// streamlocal-forward a refusal, to keepalive@openssh.com the sign of life
	// that OpenSSH gives as well.
	go ssh.DiscardRequests(requests)
	free := make(chan struct{}, maxSessions)
	for ch := range channels {
		s.channel(ch, free)
	}
}

// channel takes sessions only: direct-tcpip, direct-streamlocal and the rest
// would be a path around the simulated network.
func (s *sshServer) channel(ch ssh.NewChannel, free chan struct{}) {
	if ch.ChannelType() != "session" {
		_ = ch.Reject(ssh.Prohibited, "the lab forwards nothing: hosts have the simulated network only")
		return
	}
	select {
	case free <- struct{}{}:
	default:
		_ = ch.Reject(ssh.ResourceShortage, fmt.Sprintf("no more than %d sessions on a connection", maxSessions))
		return
	}
	c, requests, err := ch.Accept()
	if err != nil {
		<-free
		return
	}
	go func() {
		defer func() { <-free }()
		newSession(c, s.reaper, s.log, s.env).handle(requests)
	}()
}
