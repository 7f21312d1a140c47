// Package names answers about names when the network's own DNS is slow, dead,
// censored or lying, and tells whether a captive portal stands in the way.
//
//	t = 0      the system's resolver                          hosts file, the network's DNS
//	t = 300ms  two DoH servers, one DoT server, by address    or at once when the system fails
//	t = 1.8s   the last good answer                           if there is one
//	+ 1.5s     all other DoH and DoT servers                  or at once when the first three fail
//
// The first good answer wins. An answer is not good when nobody but the
// network vouches for it and it is of the kind that networks make up: that the
// name does not exist, or that a public name has none but private addresses.
// Then the servers that prove who they are, by their certificates, are asked as
// well, and what they know is preferred.
//
// What is answered about a name need not be true even so. libp2p checks the
// peer behind an address; who finds a stranger there asks again through
// [Resolver.Encrypted].
package names
