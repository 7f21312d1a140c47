package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/worldcompute/wce2e/evidence"
)

// Facts tells what this machine is like. dir is where the node's files go, or
// will go. ClockOffsetMS is not filled: only the one who asks can tell. What the
// machine does not tell stays empty; the error is about what a run depends on.
func Facts(ctx context.Context, dir string) (evidence.Facts, error) {
	f := evidence.Facts{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), EUID: os.Geteuid(),
		CPUModel: cpuModel(ctx), GPUs: gpus("/"),
	}
	var err error
	if f.Hostname, err = os.Hostname(); err != nil {
		return f, err
	}
	if info, err := host.InfoWithContext(ctx); err == nil {
		f.Kernel = info.KernelVersion
		f.Distro = strings.TrimSpace(info.Platform + " " + info.PlatformVersion)
	}
	if name := prettyName(); name != "" {
		f.Distro = name
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		f.MemoryGB = math.Round(float64(m.Total)/(1<<30)*10) / 10
	}
	if f.DiskFreeMB, err = diskFreeMB(ctx, dir); err != nil {
		return f, err
	}
	f.Addrs, err = addrs()
	return f, err
}

func cpuModel(ctx context.Context) string {
	infos, err := cpu.InfoWithContext(ctx)
	if err != nil || len(infos) == 0 {
		return ""
	}
	return infos[0].ModelName
}

// prettyName reads os-release(5).
func prettyName() string {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				return strings.Trim(value, `"'`)
			}
		}
	}
	return ""
}

// diskFreeMB tells the space where dir is, or where it would be.
func diskFreeMB(ctx context.Context, dir string) (uint64, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return 0, err
	}
	for {
		usage, err := disk.UsageWithContext(ctx, dir)
		if err == nil {
			return usage.Free >> 20, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

// addrs are the machine's own addresses, as prefixes, without loopback.
func addrs() ([]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	out := []string{}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() {
			out = append(out, ip.String())
		}
	}
	return out, nil
}
