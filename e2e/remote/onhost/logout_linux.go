package onhost

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// logoutWarning tells whether systemd-logind kills what a session leaves behind
// (logind.conf(5), KillUserProcesses). Our supervisor cannot leave the session's
// control group without changing the machine, so it only says so.
func logoutWarning(ctx context.Context) string {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || os.Geteuid() == 0 || !inSession(string(groups)) { // root is spared (KillExcludeUsers)
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a bus call takes milliseconds, or hangs
	defer cancel()
	out, err := exec.CommandContext(ctx, "busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
		"org.freedesktop.login1.Manager", "KillUserProcesses").Output()
	if err != nil || strings.TrimSpace(string(out)) != "b true" {
		return ""
	}
	return "this machine ends a user's processes at logout (KillUserProcesses=yes of logind.conf): the node will not outlive a lost SSH connection"
}

// inSession tells whether a process belongs to a login session, by its control groups.
func inSession(groups string) bool {
	for line := range strings.Lines(groups) {
		last := filepath.Base(strings.TrimSpace(line))
		if strings.HasPrefix(last, "session-") && strings.HasSuffix(last, ".scope") {
			return true
		}
	}
	return false
}
