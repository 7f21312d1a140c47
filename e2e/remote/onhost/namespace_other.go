//go:build !linux

package onhost

// sameNamespace: there is one PID namespace here.
func sameNamespace(int) bool { return true }
