package pac

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	// MaxSize bounds a script, in bytes. Those of large companies, with every
	// site in them, come to some hundred KiB.
	MaxSize = 1 << 20
	// patience bounds one question with everything in it: the start of a process
	// on a busy machine, and two names that nobody knows.
	patience = 5 * time.Second
	// lookupPatience bounds one name that the script asks for. Where DNS does not
	// answer, the script goes on without.
	lookupPatience = time.Second
	// maxLookups bounds what a script can make us ask.
	maxLookups = 32
)

// Script is a proxy auto-configuration file. It can be asked from several
// goroutines at once.
type Script struct{ source string }

// New takes the text of a script. Whether it is one shows when it is asked; what
// cannot be one, such as the page of a captive portal, is an error here.
func New(source []byte) (*Script, error) {
	if len(source) > MaxSize {
		return nil, fmt.Errorf("read a PAC script: %d bytes are more than %d", len(source), MaxSize)
	}
	if !bytes.Contains(source, []byte(entry)) {
		return nil, errors.New("read a PAC script: there is no " + entry + " in it")
	}
	return &Script{source: strings.ToValidUTF8(string(source), "\ufffd")}, nil
}

// Host is what a script may learn about this machine and its network. The zero
// Host knows nothing.
type Host struct {
	Lookup  func(ctx context.Context, name string) ([]netip.Addr, error) // nil: no name has an address
	Address netip.Addr                                                   // this machine's own; invalid: 127.0.0.1
	Now     time.Time                                                    // zero: the clock's
}

// Find asks how to get to url, whose host is given beside it, as the format
// wants it. The ways come in the script's order and there is at least one. A
// script that fails, or takes too long or too much, is an error.
func (s *Script) Find(ctx context.Context, url, host string, of Host) ([]Way, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := s.ask(ctx, url, host, of)
	if err == nil {
		var ways []Way
		if ways, err = ParseAnswer(answer); err == nil {
			return ways, nil
		}
	}
	return nil, fmt.Errorf("ask the PAC script about %s: %w", url, err)
}
