//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
)

// What a lab does on order while it stands. The orders go through the pipe whose
// end is the lab's end, one at a time, and each comes back when it is done. ctx
// bounds the waiting only: what was ordered is done all the same.

// SetProfile gives a network another firewall, as if its operator had: the old
// rules go and the new ones come in one step, and the router forgets its flows.
// A network cannot gain or lose its router by it, nor its provider's, and gains no
// IPv6; it keeps the IPv6 it has. l.Hosts stays as it is.
func (l *Lab) SetProfile(ctx context.Context, network, profile string) error {
	_, err := l.order(ctx, command{Do: setProfile, Network: network, Profile: profile})
	return err
}

// Rebind makes a network's router forget all its flows, as a reboot does. What
// becomes of them is up to the profile: behind nat-rebind they come back from
// other ports, which nobody at the other end knows.
func (l *Lab) Rebind(ctx context.Context, network string) error {
	_, err := l.order(ctx, command{Do: rebind, Network: network})
	return err
}

// Readdress gives a network's router another public address, as some ISPs do
// every night, and returns it. Flows from the old address are dead.
func (l *Lab) Readdress(ctx context.Context, network string) (netip.Addr, error) {
	s, err := l.order(ctx, command{Do: readdress, Network: network})
	if err != nil {
		return netip.Addr{}, err
	}
	return s.Addr, nil
}

// Unplug makes a host's link lose every frame in both directions, from now on.
// The host is not told: its interface stays up. The suite still reaches it, since
// its way in is not on the network.
func (l *Lab) Unplug(ctx context.Context, host string) error {
	_, err := l.order(ctx, command{Do: unplug, Host: host})
	return err
}

// Plug makes the link carry frames again.
func (l *Lab) Plug(ctx context.Context, host string) error {
	_, err := l.order(ctx, command{Do: plug, Host: host})
	return err
}

// Move takes a host to another network, as somebody does who carries a laptop
// from the office to a café: its interface goes, a new one comes up with an
// address, a gateway and a resolver of the network it is in now. It returns the
// address that the host is seen at from outside. Both networks must have a
// router: a host without one has a cable of its own. What administrators put on
// the host, certificates and the environment of its logins, stays as it is. The
// suite's way in stays open, and l.Hosts as it is.
func (l *Lab) Move(ctx context.Context, host, network string) (netip.Addr, error) {
	s, err := l.order(ctx, command{Do: move, Host: host, Network: network})
	if err != nil {
		return netip.Addr{}, err
	}
	return s.Addr, nil
}

// Traffic is what has gone over a host's link since it booted or was last moved,
// headers of IP and Ethernet included.
type Traffic struct {
	ReceivedBytes   uint64 `json:"received_bytes"`
	ReceivedPackets uint64 `json:"received_packets"`
	SentBytes       uint64 `json:"sent_bytes"`
	SentPackets     uint64 `json:"sent_packets"`
}

// Traffic reads the counters that the kernel keeps of a host's interface. A
// segment that the sender leaves to its card to cut up counts as one packet.
func (l *Lab) Traffic(ctx context.Context, host string) (Traffic, error) {
	s, err := l.order(ctx, command{Do: traffic, Host: host})
	if err != nil {
		return Traffic{}, err
	}
	return s.Traffic, nil
}

// Publish adds multiaddrs to the lab's DNS, as TXT records of /dnsaddr/NAME.ZONE.
func (l *Lab) Publish(ctx context.Context, name string, multiaddrs ...string) error {
	_, err := l.order(ctx, command{Do: publish, Name: name, Addrs: multiaddrs})
	return err
}

// command is what the suite orders of lab init.
type command struct {
	Do      verb
	Network string
	Host    string
	Profile string
	Name    string
	Addrs   []string
}

type verb string

const (
	setProfile verb = "set the profile of"
	rebind     verb = "rebind"
	readdress  verb = "readdress"
	unplug     verb = "unplug"
	plug       verb = "plug in"
	move       verb = "move"
	traffic    verb = "count the traffic of"
	publish    verb = "publish"
	prove      verb = "prove"
)

// order has lab init do c and waits for the answer. An answer that nobody waits
// for any more is taken off the pipe before the next order goes in.
func (l *Lab) order(ctx context.Context, c command) (status, error) {
	type answer struct {
		status
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		var a answer
		if a.err = ctx.Err(); a.err == nil {
			a.status, a.err = l.exchange(c)
		}
		answered <- a
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = context.Cause(ctx)
	}
	if a.err != nil {
		return status{}, fmt.Errorf("%s: %w", c, a.err)
	}
	return a.status, nil
}

// String says an order as a sentence does.
func (c command) String() string {
	if c.Do == move {
		return fmt.Sprintf("%s %s to %s", c.Do, c.Host, c.Network)
	}
	return fmt.Sprintf("%s %s", c.Do, c.Network+c.Host+c.Name)
}

// exchange is for who holds l.mu.
func (l *Lab) exchange(c command) (status, error) {
	if err := l.orders.Encode(c); err != nil {
		return status{}, fmt.Errorf("tell lab init: %w", err)
	}
	return next(l.said)
}
