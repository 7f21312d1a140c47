package remote

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// systems and machines translate what uname says into Go's words.
var (
	systems  = map[string]string{"Linux": "linux", "Darwin": "darwin", "FreeBSD": "freebsd"}
	machines = map[string]string{
		"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64",
		"armv6l": "arm", "armv7l": "arm", "i386": "386", "i686": "386",
		"riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x", "loongarch64": "loong64",
	}
)

// PlatformOf asks a machine for its system and architecture, in Go's words.
func PlatformOf(ctx context.Context, r Remote) (goos, goarch string, err error) {
	out, err := output(ctx, r, "uname", "-sm")
	if err != nil {
		return "", "", fmt.Errorf("ask for the platform: %w", err)
	}
	return parseUname(out)
}

func parseUname(out string) (goos, goarch string, err error) {
	words := strings.Fields(out)
	if len(words) != 2 {
		return "", "", fmt.Errorf("ask for the platform: uname -sm says %q", strings.TrimSpace(out))
	}
	goos, goarch = systems[words[0]], machines[words[1]]
	if goos == "" || goarch == "" {
		return "", "", fmt.Errorf("wce2e does not run on %s %s", words[0], words[1])
	}
	return goos, goarch, nil
}

// FreeSpace tells how many bytes an unprivileged user may still write where p
// is, or where it would be: the nearest folder that exists counts.
func FreeSpace(ctx context.Context, r Remote, p string) (uint64, error) {
	if !path.IsAbs(p) {
		p = path.Join(r.Home(), p)
	}
	for {
		res, err := r.Exec(ctx, []string{"df", "-Pk", p}, nil)
		if err != nil {
			return 0, fmt.Errorf("ask for the free space of %s: %w", p, err)
		}
		if res.Code == 0 {
			return parseDF(string(res.Stdout))
		}
		if p == "/" {
			return 0, fmt.Errorf("ask for the free space of %s: df: exit %d: %s", p, res.Code, firstLine(res.Stderr))
		}
		p = path.Dir(p)
	}
}

// parseDF reads what POSIX df -P prints: Filesystem 1024-blocks Used Available Capacity Mounted-on.
func parseDF(out string) (uint64, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	words := strings.Fields(lines[len(lines)-1])
	// The name of the file system may hold spaces: count from the column that ends in %.
	for i := 4; i < len(words); i++ {
		if !strings.HasSuffix(words[i], "%") {
			continue
		}
		kb, err := strconv.ParseInt(words[i-1], 10, 64)
		if err != nil {
			break
		}
		return uint64(max(kb, 0)) << 10, nil // a full disk with a reserve says less than nothing
	}
	return 0, fmt.Errorf("ask for the free space: df says %q", out)
}

// output runs a command that must succeed and gives what it printed.
func output(ctx context.Context, r Remote, argv ...string) (string, error) {
	res, err := r.Exec(ctx, argv, nil)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("%s: exit %d: %s", strings.Join(argv, " "), res.Code, firstLine(res.Stderr))
	}
	return string(res.Stdout), nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
