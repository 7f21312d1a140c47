//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/inventory"
)

// healthy finds nothing missing.
func healthy() doctor {
	return doctor{
		clone: func(uintptr) error { return nil },
		inside: func(context.Context) (insideReport, error) {
			r := insideReport{Profiles: 2}
			for _, p := range probes {
				r.Abilities = append(r.Abilities, Ability{Name: p.Name, State: OK, Needed: p.Needed})
			}
			return r, nil
		},
		whole: func(context.Context) error { return nil },
		read: func(name string) ([]byte, error) {
			if name == "/proc/meminfo" {
				return []byte("MemTotal: 8000000 kB\nMemAvailable:    4096000 kB\n"), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

func (d Diagnosis) ability(t *testing.T, name string) Ability {
	t.Helper()
	i := slices.IndexFunc(d.Abilities, func(a Ability) bool { return a.Name == name })
	if i < 0 {
		t.Fatalf("the doctor says nothing of %q", name)
	}
	return d.Abilities[i]
}

func TestAHealthyMachineHasNothingMissing(t *testing.T) {
	d := healthy().examine(t.Context())
	if !d.CanRun || d.Profiles != 2 || len(d.Unfit) > 0 {
		t.Errorf("%+v", d)
	}
	for _, a := range d.Abilities {
		if a.State != OK {
			t.Errorf("%+v", a)
		}
	}
	if m := d.ability(t, "memory"); !strings.Contains(m.Detail, "4000 MB are free") {
		t.Errorf("memory: %s", m.Detail)
	}
}

func TestWithoutUserNamespacesOnlyRootHasLabs(t *testing.T) {
	d := healthy()
	d.clone = func(flags uintptr) error {
		if flags&unix.CLONE_NEWUSER != 0 {
			return syscall.ENOSPC
		}
		return nil
	}
	read := d.read
	d.read = func(name string) ([]byte, error) {
		if name == "/proc/sys/user/max_user_namespaces" {
			return []byte("0\n"), nil
		}
		return read(name)
	}
	d.inside = func(context.Context) (insideReport, error) {
		t.Error("it was tried to get inside")
		return insideReport{}, nil
	}
	got := d.examine(t.Context())
	user := got.ability(t, "user namespaces")
	if got.CanRun || user.State != Missing || !strings.Contains(user.Detail, "max_user_namespaces is 0") || !strings.Contains(user.Remedy, "sysctl -w user.max_user_namespaces=") {
		t.Errorf("an ordinary user: can run %t, %+v", got.CanRun, user)
	}
	for _, name := range []string{"network namespaces", "nftables", "a lab of two hosts"} {
		if a := got.ability(t, name); a.State != Untried {
			t.Errorf("%s is %s", name, a.State)
		}
	}
	d.privileged, d.inside = true, healthy().inside
	if got := d.examine(t.Context()); !got.CanRun || got.ability(t, "user namespaces").State != Missing {
		t.Errorf("root: can run %t, %+v", got.CanRun, got.ability(t, "user namespaces"))
	}
}

func TestWhatIsNotNeededMayBeMissing(t *testing.T) {
	for _, c := range []struct {
		name   string
		canRun bool
	}{{"netem", true}, {"IPv6", true}, {"SYN proxies", true}, {"nftables", false}, {"packet sockets", false}} {
		d := healthy()
		d.inside = func(ctx context.Context) (insideReport, error) {
			r, err := healthy().inside(ctx)
			for i := range r.Abilities {
				if r.Abilities[i].Name == c.name {
					r.Abilities[i].State = Missing
				}
			}
			return r, err
		}
		if got := d.examine(t.Context()); got.CanRun != c.canRun {
			t.Errorf("without %s: can run %t", c.name, got.CanRun)
		}
	}
	d := healthy()
	d.whole = func(context.Context) error { return errors.New("a surprise") }
	if got := d.examine(t.Context()); got.CanRun || got.ability(t, "a lab of two hosts").Detail != "a surprise" {
		t.Error("a lab that does not come up can run")
	}
	d = healthy()
	d.inside = func(context.Context) (insideReport, error) { return insideReport{}, errors.New("killed") }
	if got := d.examine(t.Context()); got.CanRun || got.ability(t, "veth").State != Untried || len(got.Abilities) != len(healthy().examine(t.Context()).Abilities) {
		t.Errorf("an examination that broke off: %+v", got)
	}
}

func TestEveryMissingAbilitySaysWhatItMeans(t *testing.T) {
	names := map[string]bool{}
	for _, probe := range probes {
		probe.do = func(string) (string, error) { return "", errors.New("no such thing") }
		a := probe.try("")
		if a.State != Missing || a.Means == "" || a.Detail != "no such thing" || names[a.Name] {
			t.Errorf("%+v", a)
		}
		names[a.Name] = true
	}
}

func TestProfilesThatCannotRunAreNamed(t *testing.T) {
	got := unfit([]Profile{{Name: "good"}, {Name: "bad"}}, func(p Profile) error {
		if p.Name == "bad" {
			return errors.New("no synproxy")
		}
		return nil
	})
	if len(got) != 1 || got[0] != (Unfit{"bad", "no synproxy"}) {
		t.Errorf("%+v", got)
	}
}

func TestThisMachineIsExamined(t *testing.T) {
	bring(t, Config{Lab: pair(0)}) // skips where there can be no lab
	d := Diagnose(t.Context())
	if !d.CanRun || d.Profiles != len(catalogue) {
		text, _ := json.MarshalIndent(d, "", " ")
		t.Errorf("a lab stands here, and the doctor says:\n%s", text)
	}
}

// found is what a crippled process finds out about itself.
type found struct {
	Diagnosis      Diagnosis
	Without6, With string // the errors of labs without IPv6 and with it
}

// crippledFinds runs this program as one that lacks something for real.
func crippledFinds(t *testing.T, what string, attr *syscall.SysProcAttr) (f found) {
	t.Helper()
	bring(t, Config{Lab: pair(0)}) // skips where there can be no lab
	cmd := exec.Command(ownBinary(t), "crippled", what)
	cmd.SysProcAttr = attr
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &f)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return f
}

// crippled takes something away from this process and all that it starts, and then
// has it see what is left.
func crippled(what string) error {
	runtime.LockOSThread()
	take := map[string]func() error{"ipv6": forbidIPv6, "user namespaces": forbidUserNamespaces}[what]
	if take == nil {
		return lookAtOneself()
	}
	if err := take(); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", []string{os.Args[0], "crippled", ""}, os.Environ())
}

func lookAtOneself() error {
	try := func(profile string) string {
		l := pair(0)
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: "house", Profile: profile})
		l.Hosts[0].Network = "house"
		up, err := Up(context.Background(), Config{Lab: l})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(up.Close())
	}
	return json.NewEncoder(os.Stdout).Encode(found{Diagnose(context.Background()), try("home"), try("ipv6-stateful")})
}

// forbidIPv6 makes socket(AF_INET6) fail as a kernel does that has no IPv6.
func forbidIPv6() error {
	const number, family = 0, 16 // in struct seccomp_data, on a little-endian machine
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: family},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET6, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

func TestWithoutIPv6AllOtherProfilesRun(t *testing.T) {
	f := crippledFinds(t, "ipv6", nil)
	if a := f.Diagnosis.ability(t, "IPv6"); a.State != Missing || !f.Diagnosis.CanRun {
		t.Errorf("can run %t, IPv6 %+v", f.Diagnosis.CanRun, a)
	}
	var unfit, need []string
	for _, u := range f.Diagnosis.Unfit {
		unfit = append(unfit, u.Profile)
	}
	for _, p := range catalogue {
		if p.needsIPv6() {
			need = append(need, p.Name)
		}
	}
	if !slices.Equal(unfit, need) || len(need) == 0 {
		t.Errorf("these cannot run: %v; these have IPv6: %v", unfit, need)
	}
	if f.Without6 != fmt.Sprint(nil) {
		t.Errorf("a lab without IPv6: %s", f.Without6)
	}
	if want := "network house has the profile ipv6-stateful: this kernel does not speak IPv6"; !strings.Contains(f.With, want) {
		t.Errorf("a lab with IPv6: %s", f.With)
	}
}

// forbidUserNamespaces is for root of a user namespace, who is then an ordinary
// user in it.
func forbidUserNamespaces() error {
	return errors.Join(
		os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0),
		unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0),
	)
}

func TestAUserWithoutNamespacesIsToldWhatAllowsThem(t *testing.T) {
	f := crippledFinds(t, "user namespaces", &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	})
	a := f.Diagnosis.ability(t, "user namespaces")
	if f.Diagnosis.CanRun || a.State != Missing || a.Remedy != "sudo sysctl -w user.max_user_namespaces=10000" {
		t.Errorf("can run %t, %+v", f.Diagnosis.CanRun, a)
	}
	if want := "namespaces are refused to this user: /proc/sys/user/max_user_namespaces is 0"; !strings.Contains(f.Without6, want) || strings.Contains(f.Without6, "\n") {
		t.Errorf("a lab: %s", f.Without6)
	}
}
