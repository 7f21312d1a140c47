// Package localnet knows the network that this machine is in: a name for it
// that says nothing to others, when it changes, and which way out of it worked
// last time.
//
//	the system: links, addresses, default routes, neighbours, resolv.conf
//	     |                                   |
//	Fingerprint: a name                 Watch: something changed, or we slept
//	     |                                   |
//	     +--> Memory: by name, the way that won <-- what is dialled anew
//
// On Linux the system tells by netlink, without privileges. Elsewhere it is
// asked every few seconds.
package localnet
