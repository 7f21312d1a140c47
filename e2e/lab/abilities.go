//go:build linux

package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/inventory"
)

// Diagnose tries all that labs are made of, and every profile. ctx bounds it; on
// a quiet machine it takes a second or two.
func Diagnose(ctx context.Context) Diagnosis {
	return doctor{privileged: privileged(), clone: clone, inside: inside, whole: wholeLab, read: os.ReadFile}.examine(ctx)
}

// doctor is how things are tried: for real, or in a test.
type doctor struct {
	privileged bool
	clone      func(flags uintptr) error                   // starts a process in new namespaces
	inside     func(context.Context) (insideReport, error) // tries things in all of them
	whole      func(context.Context) error                 // brings a lab up
	read       func(file string) ([]byte, error)
}

// insideReport is what was found in new namespaces.
type insideReport struct {
	Abilities []Ability
	Profiles  int
	Unfit     []Unfit
}

// examTimeout is for all that is tried inside: many small things, on a machine
// that may be busy.
const examTimeout = 2 * time.Minute

func (d doctor) examine(ctx context.Context) Diagnosis {
	all := d.namespaces()
	report, err := insideReport{}, errors.New("it needs the namespaces above")
	if (Diagnosis{Abilities: all}).judged().CanRun {
		report, err = d.inside(ctx)
	}
	if err != nil {
		report = insideReport{Abilities: untried(err)}
	}
	all = append(all, report.Abilities...)
	all = append(all, d.room(), d.descriptors(), d.together(ctx, all))
	return Diagnosis{Abilities: all, Profiles: report.Profiles, Unfit: report.Unfit}.judged()
}

// untried are the inner abilities where nothing could be tried.
func untried(why error) []Ability {
	var all []Ability
	for _, p := range probes {
		a := p.Ability
		a.State, a.Detail = Untried, why.Error()
		all = append(all, a)
	}
	return all
}

// spaces are the kinds of namespaces that labs and hosts have.
var spaces = []struct {
	name string
	flag uintptr
}{
	{"network namespaces", unix.CLONE_NEWNET},
	{"mount namespaces", unix.CLONE_NEWNS},
	{"PID namespaces", unix.CLONE_NEWPID},
	{"UTS namespaces", unix.CLONE_NEWUTS},
	{"IPC namespaces", unix.CLONE_NEWIPC},
}

func (d doctor) namespaces() []Ability {
	user := Ability{Name: "user namespaces", Needed: !d.privileged, Means: "without them only root can have a lab"}
	if d.privileged {
		user.Detail = "this user needs none"
	}
	all := []Ability{d.space(user, unix.CLONE_NEWUSER)}
	for _, s := range spaces {
		a := Ability{Name: s.name, Needed: true, Means: "every lab and every host has its own"}
		flags := s.flag
		if !d.privileged {
			flags |= unix.CLONE_NEWUSER
			if all[0].State != OK {
				a.State, a.Detail = Untried, "an ordinary user needs a user namespace for it"
				all = append(all, a)
				continue
			}
		}
		all = append(all, d.space(a, flags))
	}
	return all
}

// space tries namespaces, and finds out who refuses them.
func (d doctor) space(a Ability, flags uintptr) Ability {
	err := d.clone(flags)
	if err == nil {
		a.State, a.Means = OK, ""
		return a
	}
	a.State, a.Detail = Missing, err.Error()
	if r, ok := errors.AsType[*RefusedError](explain(d.read, err)); ok {
		a.Detail = fmt.Sprintf("%s (%v)", r.Reason, r.Err)
		a.Remedy = cmp.Or(r.Remedy, "run wce2e with sudo")
	}
	return a
}

// clone starts this program in new namespaces, where it ends at once.
func clone(flags uintptr) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{doctorArg0, "nothing"}
	cmd.Env = []string{}
	a := namespaces()
	a.Cloneflags = flags
	if flags&unix.CLONE_NEWUSER == 0 {
		a.UidMappings, a.GidMappings = nil, nil
	} else if a.UidMappings == nil { // root tries what others would have
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = a
	return cmd.Run()
}

// inside runs this program as the doctor's hand in all namespaces that lab init
// has.
func inside(ctx context.Context) (report insideReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, examTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "wce2e-doctor-")
	if err != nil {
		return report, err
	}
	defer os.Remove(dir)
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{doctorArg0, dir}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.SysProcAttr = namespaces()
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return report, fmt.Errorf("try things in new namespaces: %w", err)
	}
	return report, json.Unmarshal(out, &report)
}

// runDoctor is the process inside: it tries everything and tells on stdout. dir is
// an empty folder.
func runDoctor(dir string) error {
	if dir == "nothing" {
		return nil
	}
	var report insideReport
	for _, p := range probes {
		report.Abilities = append(report.Abilities, p.try(dir))
	}
	report.Profiles = len(catalogue)
	report.Unfit = unfit(catalogue, installable)
	return json.NewEncoder(os.Stdout).Encode(report)
}

// probe tries one ability inside. The Ability is what to say if it fails.
type probe struct {
	Ability
	do func(dir string) (found string, err error)
}

func (p probe) try(dir string) Ability {
	a := p.Ability
	found, err := p.do(dir)
	if err != nil {
		a.State, a.Detail = Missing, err.Error()
		return a
	}
	return Ability{Name: a.Name, State: OK, Needed: a.Needed, Detail: found}
}

// probes are in the order in which a lab needs them. The first makes /proc, through
// which all others set the kernel's switches.
var probes = []probe{
	{Ability{Name: "a /proc of its own", Needed: true, Means: "lab init and hosts cannot see their own processes",
		Remedy: "in a container: docker run --security-opt systempaths=unconfined"}, plain(ownProc)},
	{Ability{Name: "read-only bind mounts", Needed: true, Means: "mount_setattr(2), since Linux 5.12: a host has the machine's programs, and cannot write to them",
		Remedy: "a kernel of at least 5.12"}, tryBindMount},
	{Ability{Name: "file systems of hosts", Needed: true, Means: "every host has a root, a /home and terminals of its own: tmpfs, devpts, pivot_root"}, tryRoot},
	{Ability{Name: "veth", Needed: true, Means: "there are no cables", Remedy: "sudo modprobe veth"}, tryVeth},
	{Ability{Name: "bridges", Needed: true, Means: "hosts cannot share a network", Remedy: "sudo modprobe bridge"}, tryBridge},
	{Ability{Name: "packet sockets", Needed: true, Means: "links have no delay, and nothing can be captured: AF_PACKET with PACKET_VNET_HDR and PACKET_IGNORE_OUTGOING (Linux 4.20)",
		Remedy: "sudo modprobe af_packet"}, tryTap},
	{Ability{Name: "UDP in segments", Means: "before Linux 6.2 packet sockets do not hand it on: links refuse segments, and QUIC is slower", Remedy: "a kernel of at least 6.2"}, trySegments},
	{Ability{Name: "timers", Means: "delays are longer than they should be: the machine is busy, or its clock is coarse"}, tryTimer},
	{Ability{Name: "netem", Means: "lab init delays and loses frames itself instead: no profile lacks anything"}, tryNetem},
	{Ability{Name: "IPv6", Means: "profiles with IPv6 are refused, all others run", Remedy: "boot without ipv6.disable=1"}, tryIPv6},
	{Ability{Name: "nftables", Needed: true, Means: "routers have no firewall: nf_tables with the family inet", Remedy: "sudo modprobe nf_tables"}, withRules(func(*firewall) {})},
	{Ability{Name: "connection tracking", Needed: true, Means: "routers cannot tell answers from strangers", Remedy: "sudo modprobe -a nf_conntrack nft_ct"},
		withRules(func(f *firewall) { f.add(f.forward, established(), accept()) })},
	{Ability{Name: "timeouts of flows", Needed: true, Means: "routers cannot be told when to forget a flow: sysctl net.netfilter.nf_conntrack_*"}, withRouter(func(netNS) error { return nil })},
	{Ability{Name: "forgetting flows", Means: "a router cannot be rebooted while the lab stands", Remedy: "sudo modprobe nf_conntrack_netlink"}, withRouter(netNS.forgetFlows)},
	{Ability{Name: "NAT", Needed: true, Means: "hosts cannot be behind a router's address", Remedy: "sudo modprobe -a nft_nat nft_masq"},
		withRules(func(f *firewall) { f.hides = true; f.finishNAT() })},
	{Ability{Name: "redirection", Means: "traffic cannot be led to a proxy unasked; see the profiles below", Remedy: "sudo modprobe nft_redir"},
		withRules(func(f *firewall) { f.add(f.prerouting(), protocol(unix.IPPROTO_TCP), []expr.Any{&expr.Redir{}}) })},
	{Ability{Name: "refusal", Means: "firewalls cannot say no, only be silent; see the profiles below", Remedy: "sudo modprobe nft_reject_inet"},
		withRules(func(f *firewall) {
			f.outgoing(protocol(unix.IPPROTO_TCP), reset())
			f.outgoing(adminProhibited())
		})},
	{Ability{Name: "a look into packets", Means: "no inspection of what TCP carries, since Linux 5.16; see the profiles below", Remedy: "a kernel of at least 5.16"},
		withRules(func(f *firewall) { f.passing(protocol(unix.IPPROTO_TCP), bytesAt(payloadInner, 0, "x"), drop()) })},
	{Ability{Name: "search in packets", Means: "no inspection of TLS hellos; see the profiles below", Remedy: "sudo modprobe -a nft_compat xt_string ts_bm"},
		withRules(func(f *firewall) { f.passing(contains("x"), drop()) })},
	{Ability{Name: "SYN proxies", Means: "no DDoS boxes; see the profiles below", Remedy: "sudo modprobe nft_synproxy"},
		withRules(func(f *firewall) { f.finishSYNProxy() })},
	{Ability{Name: "maps that packets fill", Means: "no full-cone NAT; see the profiles below"},
		withRules(func(f *firewall) { f.hides, f.holesForPeers = true, true; f.finishHoles() })},
}

// plain is a probe that finds nothing worth telling.
func plain(do func() error) func(string) (string, error) {
	return func(string) (string, error) { return "", do() }
}

func tryBindMount(dir string) (string, error) {
	return "", onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		r := root(dir)
		return errors.Join(r.tmpfs(".", rootSize, 0o700), r.bind("/usr", "usr"))
	})
}

func tryRoot(dir string) (string, error) {
	return "", onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		pki, err := newAuthorities()
		if err != nil {
			return err
		}
		p := newPlan(twoHosts)
		if err := makeRoot(hostOrders{Root: dir, Zone: defaultZone, Machine: p.Machines[0], Equipment: equipment{Trust: pki.web.pem()}}); err != nil {
			return err
		}
		t, err := newPTY()
		if err != nil {
			return err
		}
		return errors.Join(t.master.Close(), t.slave.Close())
	})
}

// between runs try with two namespaces that a cable joins: end in the first one.
func between(try func(a netNS) error) error {
	a, err := newNetNS(false)
	if err != nil {
		return err
	}
	b, err := newNetNS(false)
	if err != nil {
		return err
	}
	if err := addVeth(a, "end", nil, b, "other"); err != nil {
		return err
	}
	if err := a.edit(func(h *netlink.Handle) error { return setUp(h, "end") }); err != nil {
		return err
	}
	return try(a)
}

func tryVeth(string) (string, error) { return "", between(func(netNS) error { return nil }) }

func tryBridge(string) (string, error) {
	ns, err := newNetNS(false)
	if err != nil {
		return "", err
	}
	return "", ns.edit(func(h *netlink.Handle) error { return addBridge(h, lan, bridgeMAC(0), nthLAN(0), netip.Prefix{}) })
}

func tryTap(string) (string, error) {
	return "", between(func(a netNS) error {
		return a.do(func() error {
			t, err := openTap("end")
			if err != nil {
				return err
			}
			return t.file.Close()
		})
	})
}

func trySegments(string) (string, error) {
	if !wireCarriesUDPSegments() {
		return "", errors.New("this kernel is older")
	}
	return "", nil
}

// lateness is how late a timer may be: a tenth of the usual link's delay.
const lateness = time.Millisecond

func tryTimer(string) (string, error) {
	clock, err := newAlarm()
	if err != nil {
		return "", err
	}
	defer clock.file.Close()
	late := time.Hour
	for range 20 { // the best one: what the machine can, not how busy it is
		due := time.Now().Add(time.Millisecond)
		if err := clock.sleepUntil(due); err != nil {
			return "", err
		}
		late = min(late, time.Since(due))
	}
	if late > lateness {
		return "", fmt.Errorf("a timer is late by %s", late)
	}
	return fmt.Sprintf("late by %s", late.Round(time.Microsecond)), nil
}

func tryNetem(string) (string, error) {
	return "", between(func(a netNS) error {
		return a.edit(func(h *netlink.Handle) error {
			l, err := h.LinkByName("end")
			if err != nil {
				return err
			}
			return h.QdiscAdd(netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT},
				netlink.NetemQdiscAttrs{Latency: 1000}))
		})
	})
}

func tryIPv6(string) (string, error) {
	if !hasIPv6() {
		return "", errNoIPv6
	}
	ns, err := newNetNS(true)
	if err != nil {
		return "", err
	}
	return "", ns.edit(func(h *netlink.Handle) error { return addAddr(h, "lo", nthLAN6(0)) })
}

// withRules probes that a router can have them.
func withRules(add func(*firewall)) func(string) (string, error) {
	return plain(func() error {
		ns, err := newNetNS(false)
		if err != nil {
			return err
		}
		conn, err := nftables.New(nftables.WithNetNSFd(ns.fd))
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		f := newFirewall(conn, anywhere(Profile{}))
		add(f)
		return errors.Join(f.err, conn.Flush())
	})
}

// anywhere is what a router's rules need to know of some site.
func anywhere(p Profile) surroundings {
	return newSite(inventory.LabNetwork{}, 0, p, p.ipv6).surroundings()
}

// withRouter probes do on a router as homes have it.
func withRouter(do func(netNS) error) func(string) (string, error) {
	return plain(func() error {
		ns, err := newNetNS(false)
		if err != nil {
			return err
		}
		home, err := profileNamed("home")
		if err != nil {
			return err
		}
		if _, err := home.install(ns, anywhere(home), false); err != nil {
			return err
		}
		return do(ns)
	})
}

// unfit are the profiles that cannot be installed.
func unfit(profiles []Profile, install func(Profile) error) []Unfit {
	var all []Unfit
	for _, p := range profiles {
		if err := install(p); err != nil {
			all = append(all, Unfit{p.Name, err.Error()})
		}
	}
	return all
}

// installable tries a profile's rules on a router that is thrown away.
func installable(p Profile) error {
	if p.needsIPv6() && !hasIPv6() {
		return errNoIPv6
	}
	if p.public {
		return nil
	}
	ns, err := newNetNS(p.needsIPv6())
	if err != nil {
		return err
	}
	defer unix.Close(ns.fd)
	_, err = p.install(ns, anywhere(p), false)
	return err
}

// room is the memory for hosts.
func (d doctor) room() Ability {
	a := Ability{Name: "memory"}
	text, err := d.read("/proc/meminfo")
	if err != nil {
		a.Detail = err.Error()
		a.State = Untried
		return a
	}
	free, ok := field(string(text), "MemAvailable:")
	hosts := free << 10 / hostMemory
	a.State, a.Detail = OK, fmt.Sprintf("%d MB are free, which is room for about %d hosts beside what runs on them", free>>10, hosts)
	if !ok || hosts < fewHosts {
		a.State, a.Means = Missing, "the default lab has seven hosts, and each runs a node"
	}
	return a
}

const (
	// hostMemory is what an idle host takes: see BenchmarkHosts.
	hostMemory = 8 << 20
	// fewHosts is less than a lab wants: hosts are there to run something.
	fewHosts = 32
	// hostDescriptors is what lab init keeps open for a host, its link included.
	hostDescriptors = 16
)

// field is a number of a file such as /proc/meminfo.
func field(text, name string) (n uint64, ok bool) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			n, err := strconv.ParseUint(words[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// descriptors is the limit on open files of one process, which lab init raises as
// far as it may.
func (d doctor) descriptors() Ability {
	a := Ability{Name: "open files", Remedy: "ulimit -Hn 65536, as root"}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		a.State, a.Detail = Untried, err.Error()
		return a
	}
	hosts := limit.Max / hostDescriptors
	a.State, a.Detail = OK, fmt.Sprintf("at most %d, enough for %d hosts", limit.Max, min(hosts, maxLinks))
	if hosts < fewHosts {
		a.State, a.Means = Missing, "lab init keeps some open for every host"
		return a
	}
	a.Remedy = ""
	return a
}

// together tries what all of that is for, if there is any hope.
func (d doctor) together(ctx context.Context, found []Ability) Ability {
	a := Ability{Name: "a lab of two hosts", Needed: true, Means: "all parts are there, and yet it does not come up"}
	if !(Diagnosis{Abilities: found}).judged().CanRun {
		a.State, a.Means, a.Detail = Untried, "", "something that it needs is missing"
		return a
	}
	start := time.Now()
	if err := d.whole(ctx); err != nil {
		a.State, a.Detail = Missing, err.Error()
		return a
	}
	a.State, a.Means, a.Detail = OK, "", fmt.Sprintf("up and down in %s", time.Since(start).Round(10*time.Millisecond))
	return a
}

var twoHosts = &inventory.Lab{
	Networks: []inventory.LabNetwork{{Name: "house", Profile: "home"}, {Name: "core", Profile: open}},
	Hosts:    []inventory.LabHost{{Name: "a", Network: "core"}, {Name: "b", Network: "house"}},
}

func wholeLab(ctx context.Context) error {
	l, err := Up(ctx, Config{Lab: twoHosts})
	if err != nil {
		return err
	}
	return l.Close()
}

var errNoIPv6 = errors.New("this kernel does not speak IPv6")

// hasIPv6 asks for a socket: a kernel that was booted with ipv6.disable=1 has
// switches for it all the same.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.EAFNOSUPPORT)
}
