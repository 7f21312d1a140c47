//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
)

// status is what a process of the lab tells the one that started it.
type status struct {
	Ready   bool       `json:"ready,omitempty"` // or: done
	Peer    string     `json:"peer,omitempty"`  // of a bystander: its peer ID
	Addr    netip.Addr `json:"addr,omitzero"`   // readdress: the new one
	Traffic Traffic    `json:"traffic,omitzero"`
	Proofs  []Proof    `json:"proofs,omitempty"`
	Err     string     `json:"err,omitempty"`
	Denied  bool       `json:"denied,omitempty"` // Err is a missing permission
}

// statusPipe is kept for good: a File that nobody refers to closes its descriptor.
var statusPipe = sync.OnceValue(func() *os.File { return os.NewFile(fdStatus, "status") })

// say writes one status to fdStatus.
func say(s status) error {
	if err := json.NewEncoder(statusPipe()).Encode(s); err != nil {
		return fmt.Errorf("tell status: %w", err)
	}
	return nil
}

// confess tells why this process ends, and ends it with that error.
func confess(err error) error {
	_ = say(status{Err: err.Error(), Denied: refused(err)}) // if nobody listens, the exit code says it
	return err
}

// next reads one status, as an error when it is one.
func next(from *json.Decoder) (status, error) {
	var s status
	err := from.Decode(&s)
	switch {
	case err == io.EOF:
		return s, fmt.Errorf("it ended without a word: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return s, err
	case s.Denied:
		return s, fmt.Errorf("%w: %s", errDenied, s.Err)
	case s.Err != "":
		return s, fmt.Errorf("%s", s.Err)
	}
	return s, nil
}

// orders reads what this process is for from fdOrders, and returns a channel
// that is closed at that pipe's end, which is when whoever started it has gone.
func orders(into any) (<-chan struct{}, error) {
	f := os.NewFile(fdOrders, "orders")
	if err := json.NewDecoder(f).Decode(into); err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, f)
		close(gone)
	}()
	return gone, nil
}
