// Package wire is every shape that leaves a node: the events it records, the
// answers of its local API, and the task messages of the World Compute mesh.
// Suite and daemon never import each other; they meet in these shapes, over
// SSH and a socket. The comments here are the specification.
//
// It imports no libp2p: peer IDs and multiaddrs are text.
package wire
