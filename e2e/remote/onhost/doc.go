// Package onhost is what our own binary does on a machine for the suite, which
// calls it over SSH: it keeps a node running under a lease, tells what the
// machine is like and what of ours is on it, and cleans up.
//
//	suite ──SSH──► wce2e host start ──► supervisor ──► node
//	                    (gone)             │  ▲
//	  DIR/lease  rewritten by the suite ───┘  │  no change for too long: the node is ended
//	  DIR/stop   "end it"                     │
//	  DIR/pid.json, DIR/exit.json, DIR/node.log
//
// The supervisor has a session of its own and outlives the SSH connection; the
// node outlives neither the supervisor nor the lease.
package onhost

import "path/filepath"

// The files of a supervised node, in its folder.
const (
	LeaseFile = "lease"     // any content; the supervisor looks for changes of it
	StopFile  = "stop"      // there: the node is to end
	PIDFile   = "pid.json"  // Running
	ExitFile  = "exit.json" // Ended, once the node has ended
	LogFile   = "node.log"  // stdout and stderr of the node
	selfLog   = "supervisor.log"
)

// The base folder, in a login's home directory, and the folders below it.
const (
	BaseDir = ".wce2e"
	BinDir  = "bin"  // bin/<sha256>/wce2e: binaries, kept for the next run
	RunsDir = "runs" // runs/<run>/: what one run leaves, until it is cleaned
)

// RunDir is the folder of one run below a base folder.
func RunDir(base, run string) string { return filepath.Join(base, RunsDir, run) }
