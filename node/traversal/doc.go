// Package traversal gets a node out of its network: it expands the bootstrap
// list, dials all of it at once over every transport, obtains a reservation on
// a relay, proves every few seconds that the path to it still lives, and moves
// to another relay when it does not.
//
//	bootstrap list --resolve--> peers --race--> connections --RESERVE--> reservation
//	                              ^                                          |
//	                              +------------- lost, or a ping missed -----+
//
// Success is a reservation, not a connection: many networks let a connection
// be made and then starve it.
package traversal
