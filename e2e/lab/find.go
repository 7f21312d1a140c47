//go:build linux

package lab

// Find gives the profile that inventories write so, alone or composed, with the
// truth of the whole.
func Find(names string) (Profile, error) { return profileNamed(names) }
