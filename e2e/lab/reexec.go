//go:build linux

package lab

import (
	"fmt"
	"os"
)

// How a process of the lab knows itself: by argv[0] but for the last, which
// OpenSSH starts from a command line.
const (
	initArg0    = "wce2e-lab-init"
	hostArg0    = "wce2e-lab-host"
	acmeArg0    = "wce2e-lab-acme"
	doctorArg0  = "wce2e-lab-doctor" // and an empty folder to try things in
	connectArg1 = "wce2e-lab-connect"
)

// Descriptors that every process of the lab is born with.
const (
	fdOrders = 3 // a JSON document; then the end of file is the end of the process
	fdStatus = 4 // JSON lines back
	fdSSH    = 5 // of a host: the listening unix socket

	fdListener = 5 // of the ACME server: its TCP socket
)

// Reexec turns this process into the part of a lab that it was started as, and
// then never returns. In every other process it returns at once. It must be the
// first statement of main, and of TestMain in packages that bring a lab up: the
// lab is made of processes that run the same program again.
func Reexec() {
	switch {
	case os.Args[0] == initArg0 && len(os.Args) == 2:
		os.Exit(exitOf(runInit()))
	case os.Args[0] == hostArg0:
		os.Exit(exitOf(runHost()))
	case os.Args[0] == acmeArg0:
		os.Exit(exitOf(runAuthority()))
	case os.Args[0] == doctorArg0 && len(os.Args) == 2:
		os.Exit(exitOf(runDoctor(os.Args[1])))
	case len(os.Args) == 3 && os.Args[1] == connectArg1:
		os.Exit(exitOf(connect(os.Args[2], os.Stdin, os.Stdout)))
	}
}

func exitOf(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
