// Package names answers about names when the network's own DNS is slow, dead,
// censored or lying, and tells whether a captive portal stands in the way.
//
//	t = 0      the system's resolver
//	t = 300ms  two DoH servers and one DoT server, known by address,
//	           or at once when the system's resolver fails
//	t = 1.8s   all other DoH and DoT servers, or at once when those three fail;
//	           the last good answer, if there is one and nobody has answered
//	t = 10s    nobody is waited for any more
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
