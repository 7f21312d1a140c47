//go:build linux

package lab

// proof shows with plain sockets that a rule or a service does what it says:
// nil when that was seen. It fails behind a network that lacks the rule.
type proof func(*trial) error

// trial is a network under test, and the sockets to try it with.
type trial struct{}
