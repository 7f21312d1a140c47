package onhost

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// installed copies the test binary below a base folder, as the suite does.
func installed(t *testing.T) (base, bin string) {
	t.Helper()
	base = filepath.Join(t.TempDir(), ".wce2e")
	self, err := Hash(selfPath(t))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(selfPath(t))
	if err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(base, BinDir, self.SHA256, "wce2e")
	if err := os.MkdirAll(filepath.Dir(bin), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, content, 0o700); err != nil {
		t.Fatal(err)
	}
	return base, bin
}

func startIn(t *testing.T, base, bin, run string) Started {
	t.Helper()
	dir := RunDir(base, run)
	s, err := Start(t.Context(), StartConfig{Dir: dir, Lease: time.Minute, Args: []string{bin, "listen", dir}, Supervisor: []string{bin, "supervise"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sendSignal(s.Supervisor, s.SuperBorn, 9) })
	awaitLog(t, dir, "listening")
	return s
}

func TestLeftoversAreProcessesSocketsAndFiles(t *testing.T) {
	base, bin := installed(t)
	t.Setenv("HOME", filepath.Dir(base))
	s := startIn(t, base, bin, "one")
	left, err := Leftovers(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	if len(left.Processes) != 2 || !slices.ContainsFunc(left.Processes, func(p string) bool { return strings.HasPrefix(p, fmt.Sprintf("%d ~/.wce2e/bin/", s.PID)) }) {
		t.Errorf("processes: %q", left.Processes)
	}
	var kinds []string
	for _, l := range left.Listeners {
		kinds = append(kinds, strings.Fields(l)[0])
	}
	if !slices.Equal(kinds, []string{"tcp", "udp", "unix"}) || !strings.Contains(left.Listeners[2], "~/.wce2e/runs/one/sock") {
		t.Errorf("listeners: %q", left.Listeners)
	}
	cached := "~" + strings.TrimPrefix(bin, filepath.Dir(base))
	if !slices.Equal(left.Allowed, []string{cached}) || left.Files[cached] == "" {
		t.Errorf("allowed: %q", left.Allowed)
	}
	if left.Files["~/.wce2e/runs/one/sock"] != "socket" || len(left.Files["~/.wce2e/runs/one/pid.json"]) != 64 {
		t.Errorf("files: %v", left.Files)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(bin), "wce2e"), []byte("other"), 0o700); err == nil {
		t.Error("a running binary could be written to") // or the rest of this test shows nothing
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, []byte("other"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err = Leftovers(t.Context(), base)
	if err != nil || len(left.Allowed) > 0 || len(left.Processes) != 2 {
		t.Errorf("with another binary in its place: %q may stay, %q run, %v", left.Allowed, left.Processes, err)
	}
}

func TestWhereNothingIsNothingIsLeft(t *testing.T) {
	base := filepath.Join(t.TempDir(), "not there")
	left, err := Leftovers(t.Context(), base)
	if err != nil || len(left.Processes)+len(left.Listeners)+len(left.Files) > 0 || left.Files == nil || left.Processes == nil {
		t.Errorf("%+v, %v", left, err)
	}
	self := selfPath(t)
	left, err = Leftovers(t.Context(), filepath.Dir(self)) // it is ours, but it is the one who asks
	if err != nil || len(left.Processes) > 0 {
		t.Errorf("%q, %v", left.Processes, err)
	}
	if err := os.MkdirAll(filepath.Join(base, "runs", "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err = Leftovers(t.Context(), base)
	if err != nil || left.Files[filepath.Join(base, "runs", "empty")] != "empty folder" {
		t.Errorf("an empty folder: %v, %v", left.Files, err)
	}
}

func TestCleaningARunLeavesTheOthersAlone(t *testing.T) {
	base, bin := installed(t)
	one, two := startIn(t, base, bin, "one"), startIn(t, base, bin, "two")
	startIn(t, base, bin, "one more") // its name begins alike
	done, err := Clean(t.Context(), base, RunDir(base, "one"))
	if err != nil || len(done.Killed) != 2 || done.Files < 4 {
		t.Errorf("%+v, %v", done, err)
	}
	if runs(one.PID, one.Born) || exists(RunDir(base, "one")) {
		t.Error("something of it is still there")
	}
	if !runs(two.PID, two.Born) || !exists(filepath.Join(RunDir(base, "two"), PIDFile)) {
		t.Error("another run was touched")
	}
	if again, err := Clean(t.Context(), base, RunDir(base, "one")); err != nil || len(again.Killed)+again.Files > 0 {
		t.Errorf("cleaned twice: %+v, %v", again, err)
	}
	for _, run := range []string{"two", "one more"} {
		if _, err := Clean(t.Context(), base, RunDir(base, run)); err != nil {
			t.Error(err)
		}
	}
	left, err := Leftovers(t.Context(), base)
	if err != nil || len(left.Processes) > 0 || len(left.Files) != 1 || len(left.Allowed) != 1 {
		t.Errorf("after all: %+v, %v", left, err)
	}
}

func TestOnlyTheFolderOfARunIsEverCleaned(t *testing.T) {
	base, _ := installed(t)
	for _, dir := range []string{base, filepath.Dir(base), filepath.Join(base, BinDir), filepath.Join(base, RunsDir), RunDir(base, "../bin"), RunDir(base, "a/b"), "/"} {
		if done, err := Clean(t.Context(), base, dir); err == nil {
			t.Errorf("%s: %+v", dir, done)
		}
	}
	if left, err := Leftovers(t.Context(), base); err != nil || len(left.Allowed) != 1 {
		t.Errorf("%+v, %v", left, err)
	}
}

func TestFactsAreThere(t *testing.T) {
	f, err := Facts(t.Context(), filepath.Join(t.TempDir(), "not", "there"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Hostname == "" || f.OS == "" || f.Arch == "" || f.Kernel == "" || f.Distro == "" || f.CPUs < 1 || f.MemoryGB <= 0 || f.DiskFreeMB == 0 || f.GPUs == nil || f.Addrs == nil || f.EUID != os.Geteuid() {
		t.Errorf("%+v", f)
	}
}

func TestGraphicsProcessorsAreNamed(t *testing.T) {
	root := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	device := func(slot, class, vendor, device string) {
		put("sys/bus/pci/devices/"+slot+"/class", class+"\n")
		put("sys/bus/pci/devices/"+slot+"/vendor", vendor+"\n")
		put("sys/bus/pci/devices/"+slot+"/device", device+"\n")
	}
	if got := gpus(root); got == nil || len(got) > 0 {
		t.Errorf("none: %q", got)
	}
	device("0000:00:00.0", "0x060000", "0x8086", "0x1234") // a bridge
	device("0000:01:00.0", "0x030000", "0x1a03", "0x2000") // a server's console
	device("0000:02:00.0", "0x030200", "0x10de", "0x20b0")
	device("0000:03:00.0", "0x030000", "0x1002", "0x73bf")
	if got := gpus(root); !slices.Equal(got, []string{"NVIDIA 10de:20b0", "AMD 1002:73bf"}) {
		t.Errorf("by number: %q", got)
	}
	put("proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 1\n")
	if got := gpus(root); !slices.Equal(got, []string{"NVIDIA A100-SXM4-40GB", "AMD 1002:73bf"}) {
		t.Errorf("by name: %q", got)
	}
}
