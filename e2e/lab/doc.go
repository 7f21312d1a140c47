// Package lab is the simulated internet: networks behind firewall profiles, and
// hosts in them that are reached over SSH exactly like real ones.
package lab
