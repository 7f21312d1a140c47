package remote

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys checks that a machine is the one that known_hosts knows. There is no
// way around it: StrictHostKeyChecking counts as yes whatever ssh_config says.
type hostKeys struct {
	target  string
	addr    string // how known_hosts names the machine: host:port
	files   []string
	db      *knownhosts.HostKeyDB
	checked string // fingerprint of the key it proved; empty until then
	refusal error  // why the key it showed was not accepted
}

// newHostKeys reads the known_hosts files of a machine. Those that are not there
// know nobody.
func newHostKeys(s settings) (*hostKeys, error) {
	h := &hostKeys{target: s.target, addr: net.JoinHostPort(s.host, s.port), files: s.knownHosts}
	if s.keyAlias != "" {
		h.addr = net.JoinHostPort(s.keyAlias, "22") // as OpenSSH does: an alias has no port
	}
	var there []string
	for _, f := range s.knownHosts {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			there = append(there, f)
		}
	}
	var err error
	if h.db, err = knownhosts.NewDB(there...); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.target, err)
	}
	return h, nil
}

// algorithms are all host key algorithms, those of the keys that are known of the
// machine first. Else a server would show the key it likes best, and one that we
// do not know of the same machine would look like an impostor's.
func (h *hostKeys) algorithms() []string {
	known := h.db.HostKeyAlgorithms(h.addr)
	if len(known) == 0 {
		return nil // the library's own order
	}
	for _, a := range ssh.SupportedAlgorithms().HostKeys {
		if !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	return known
}

// check is an ssh.HostKeyCallback. It looks the machine up by name alone: what
// address a proxy reached it at tells nothing.
func (h *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	h.refusal = h.lookUp(key)
	return h.refusal
}

func (h *hostKeys) lookUp(key ssh.PublicKey) error {
	fingerprint := ssh.FingerprintSHA256(key)
	err := h.db.HostKeyCallback()(h.addr, &net.TCPAddr{}, key)
	var revoked *xknownhosts.RevokedError
	var mismatch *xknownhosts.KeyError
	switch {
	case err == nil:
		h.checked = fingerprint
		return nil
	case errors.As(err, &revoked):
		return &ChangedHost{
			Target: h.target, Addr: xknownhosts.Normalize(h.addr), Fingerprint: fingerprint, KeyType: key.Type(),
			Known: []string{place(revoked.Revoked)}, Revoked: true,
		}
	case errors.As(err, &mismatch) && len(mismatch.Want) > 0:
		changed := &ChangedHost{Target: h.target, Addr: xknownhosts.Normalize(h.addr), Fingerprint: fingerprint, KeyType: key.Type()}
		for _, k := range mismatch.Want {
			changed.Known = append(changed.Known, place(k))
		}
		return changed
	case errors.As(err, &mismatch):
		return &UnknownHost{Target: h.target, Addr: xknownhosts.Normalize(h.addr), Fingerprint: fingerprint, KeyType: key.Type(), Files: h.files}
	}
	return fmt.Errorf("check the host key of %s: %w", h.target, err)
}

func place(k xknownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", k.Filename, k.Line) }
