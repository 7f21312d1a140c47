//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// trustStores are where systems keep the certificates of authorities, all in one
// file: Debian, Alpine and Arch; Fedora and Red Hat; openSUSE; BSD and others.
var trustStores = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem",
	"/etc/ssl/cert.pem",
}

// trust adds authorities to the trust store of this host, which has the
// machine's, read-only. A machine without any gets Debian's. It comes after the
// change of roots: many of these files are links, and absolute ones.
func trust(added string) error {
	var stores []string
	for _, file := range trustStores {
		if file, err := filepath.EvalSymlinks(file); err == nil && !slices.Contains(stores, file) {
			stores = append(stores, file)
		}
	}
	if len(stores) == 0 {
		return makeStore(trustStores[0], added)
	}
	for i, file := range stores {
		if err := overlay(file, fmt.Sprintf("/run/trust%d.pem", i), added); err != nil {
			return fmt.Errorf("add to the trust store %s: %w", file, err)
		}
	}
	return nil
}

// overlay shows, in place of file, a copy that ends in added.
func overlay(file, copied, added string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(copied, append(append(text, '\n'), added...), 0o644); err != nil {
		return err
	}
	return unix.Mount(copied, file, "", unix.MS_BIND, "")
}

// makeStore makes one, in place of the machine's folder, which has none.
func makeStore(file, text string) error {
	const dir = "/etc/ssl"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("make a trust store: mount on %s: %w", dir, err)
	}
	return errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
}
