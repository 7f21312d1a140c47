package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keys are what we can log in with: keys in an agent, and keys in files.
type keys struct {
	signers []ssh.Signer
	offered []string // the names of the signers' keys, for a person
	notes   []string // keys that cannot be used, and why
	agent   net.Conn // nil without an agent; open as long as its signers are used
}

func (k *keys) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// collectKeys gathers keys in OpenSSH's order, because servers close the door
// after a few wrong ones: keys of the agent that are configured, other keys of
// the agent (unless IdentitiesOnly), keys that are only in files.
func collectKeys(s settings) *keys {
	k := &keys{}
	held := k.fromAgent(s.agent)
	var files []ssh.Signer
	var names, missing []string
	configured := map[string]string{} // marshalled public key -> file
	for _, name := range s.identities {
		public, signer, err := readKey(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if public != nil {
			configured[string(public.Marshal())] = name
		}
		switch {
		case signer != nil && !held.has(public):
			files, names = append(files, signer), append(names, name)
		case err != nil && !held.has(public):
			k.notes = append(k.notes, err.Error())
		}
	}
	k.addAgent(held, configured, true)
	if !s.identitiesOnly {
		k.addAgent(held, configured, false)
	}
	k.signers, k.offered = append(k.signers, files...), append(k.offered, names...)
	if len(k.signers) == 0 && len(missing) > 0 {
		k.notes = append(k.notes, "no such file: "+strings.Join(missing, ", "))
	}
	return k
}

// agentKeys are the keys that an agent holds, in its order.
type agentKeys []ssh.Signer

func (held agentKeys) has(key ssh.PublicKey) bool {
	return key != nil && slices.ContainsFunc(held, func(s ssh.Signer) bool {
		return bytes.Equal(s.PublicKey().Marshal(), key.Marshal())
	})
}

// addAgent adds the agent's keys that are configured, or those that are not.
func (k *keys) addAgent(held agentKeys, configured map[string]string, wanted bool) {
	for _, signer := range held {
		if name, is := configured[string(signer.PublicKey().Marshal())]; is == wanted {
			k.signers = append(k.signers, signer)
			k.offered = append(k.offered, or(name, ssh.FingerprintSHA256(signer.PublicKey()))+" (agent)")
		}
	}
}

// fromAgent asks the agent which keys it holds.
func (k *keys) fromAgent(socket string) agentKeys {
	if socket == "" {
		return nil
	}
	conn, err := net.DialTimeout("unix", socket, agentTimeout)
	if err != nil {
		k.notes = append(k.notes, fmt.Sprintf("the ssh-agent does not answer: %v", err))
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(agentTimeout)) // a unix socket has deadlines
	held, err := agent.NewClient(conn).Signers()
	if err != nil {
		conn.Close()
		k.notes = append(k.notes, fmt.Sprintf("the ssh-agent tells no keys: %v", err))
		return nil
	}
	_ = conn.SetDeadline(time.Time{}) // signing may wait for a person's touch; the handshake's timeout bounds it
	k.agent = conn
	return held
}

// agentTimeout bounds how long an agent may take to list its keys. A forwarded
// agent whose line is dead never answers.
const agentTimeout = 5 * time.Second

// readKey reads a private key, with the certificate beside it if there is one.
// Of an encrypted key it gives the public half, if that can be had, and an error.
func readKey(name string) (ssh.PublicKey, ssh.Signer, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		if public, perr := readPublic(name + ".pub"); perr == nil {
			return public, nil, fmt.Errorf("%s: only its public half is here, and the ssh-agent does not hold it", name)
		}
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(content)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) {
		public := encrypted.PublicKey
		if public == nil {
			public, _ = readPublic(name + ".pub") // without it the agent's key cannot be recognised; the note stays
		}
		return public, nil, fmt.Errorf("%s is encrypted, and the ssh-agent does not hold it: ssh-add %s", name, name)
	}
	if err != nil {
		if public, perr := parsePublic(content); perr == nil { // IdentityFile may name a public key of the agent's
			return public, nil, fmt.Errorf("%s is a public key that the ssh-agent does not hold", name)
		}
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if cert, err := readPublic(name + "-cert.pub"); err == nil {
		if c, ok := cert.(*ssh.Certificate); ok {
			if with, err := ssh.NewCertSigner(c, signer); err == nil {
				return with.PublicKey(), with, nil
			}
		}
	}
	return signer.PublicKey(), signer, nil
}

func readPublic(name string) (ssh.PublicKey, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parsePublic(content)
}

func parsePublic(content []byte) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(content)
	return key, err
}
