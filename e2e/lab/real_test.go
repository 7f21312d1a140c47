//go:build linux

package lab

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The services that networks run, as Debian ships them, in place of ours: they
// stand the same proofs. They run in the routers' namespaces, as children of lab
// init, and end with it.

var realFlag = flag.Bool("real", false, "prove the lab's services with real daemons in place of ours; needs root, and make lab-real installs them")

// realProfiles are networks with some of their services' starts in place of ours.
// Lab init knows them always, the suite with -real.
var realProfiles = []Profile{
	real("real-squid", "proxy-only", starts{"http-proxy": startSquid}),
	real("real-tinyproxy", "proxy-only", starts{"http-proxy": startTinyproxy}),
	real("real-nat64", "ipv6-only-nat64", starts{"dns64": startUnbound, "nat64": startTayga}),
	real("real-upnp", "upnp", starts{"upnp-igd": startMiniupnpd, "nat-pmp": nil}).translating(),
}

type starts map[string]func(*router) error

// programs are what they need.
var programs = map[string][]string{
	"real-squid":     {"squid"},
	"real-tinyproxy": {"tinyproxy"},
	"real-nat64":     {"unbound", "tayga"},
	"real-upnp":      {"miniupnpd"},
}

func TestRealDaemonsDoWhatOursDo(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("SKIPPED: -short leaves the lab out")
	case !*realFlag:
		t.Skip("SKIPPED: real daemons are for -real: make lab-real")
	case os.Getuid() != 0:
		t.Skip("SKIPPED: most daemons change their user, which takes root")
	}
	for _, p := range realProfiles {
		t.Run(p.Name, func(t *testing.T) {
			for _, name := range programs[p.Name] {
				if _, err := exec.LookPath(name); err != nil {
					t.Skipf("SKIPPED: %v: make lab-real installs it", err)
				}
			}
			found, err := SelfTest(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), p.Name)
			if r, ok := errors.AsType[*RefusedError](err); ok {
				t.Skipf("SKIPPED: no lab on this machine: %v", r)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, proof := range found {
				if proof.Err != "" {
					t.Errorf("%s: %s", proof.Name, proof.Err)
				}
				t.Logf("%s: saw %s", proof.Name, proof.Saw)
			}
		})
	}
}

// real is a profile of another name, with other starts of some services.
func real(name, of string, other starts) Profile {
	p := catalogue[slices.IndexFunc(catalogue, func(p Profile) bool { return p.Name == of })]
	p.Name, p.services = name, slices.Clone(p.services)
	for i, s := range p.services {
		if start, ok := other[s.name]; ok {
			p.services[i].start = start
		}
	}
	return p
}

// translating takes out the rule with our map of lent ports: the daemon has its
// own, in its own table. What that has translated passes.
func (p Profile) translating() Profile {
	p.rules = slices.DeleteFunc(slices.Clone(p.rules), func(r rule) bool { return r.name == mappedPorts.name })
	p.rules = append(p.rules, rule{name: "pass-translated", does: "what is translated on its way in passes",
		apply: func(f *firewall) { f.add(f.forward, in(wan), translatedIn(), accept()) },
		proof: func(*trial) error { return nil }}) // the daemon's show it
	return p
}

// workshop is a folder that is there in lab init's mounts only. Programs that
// ask the system for names ask the lab's resolver from there.
var workshop = sync.OnceValues(func() (string, error) {
	const dir = "/mnt"
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64m,mode=755"); err != nil {
		return "", fmt.Errorf("mount a workshop: %w", err)
	}
	conf := filepath.Join(dir, "resolv.conf")
	err := os.WriteFile(conf, []byte(resolvConf(resolver, "")), 0o644)
	if err == nil {
		err = unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, "")
	}
	return dir, err
})

// configure writes a file for a daemon, into a folder that it may write to.
func (r *router) configure(name, format string, args ...any) (file string, err error) {
	base, err := workshop()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, fmt.Sprintf("%s%d", name, r.index))
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o777)); err != nil {
		return "", err
	}
	file = filepath.Join(dir, name+".conf")
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "DIR", dir)
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// command runs in the router's namespace.
func (r *router) command(argv ...string) *exec.Cmd {
	const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
	program := argv[0]
	for dir := range strings.SplitSeq(strings.TrimPrefix(path, "PATH="), ":") {
		if at := filepath.Join(dir, argv[0]); exists(at) {
			program = at
			break
		}
	}
	cmd := exec.Command(program, argv[1:]...)
	cmd.Env = []string{path}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// daemon starts a program that stays, and waits until it listens on a
// TCP port, unless that is 0.
func (r *router) daemon(port uint16, argv ...string) error {
	cmd := r.command(argv...)
	if err := r.ns.do(cmd.Start); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := fmt.Errorf("%s ended: %w", argv[0], cmd.Wait())
		ended <- err
		r.fail(err)
	}()
	for end := time.Now().Add(patience); port != 0 && !r.listens(port); {
		select {
		case err := <-ended:
			return err
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not listen on TCP port %d", argv[0], port)
		}
	}
	return nil
}

// listens looks for a listener, since routers do not let themselves in.
func (r *router) listens(port uint16) (yes bool) {
	err := r.ns.do(func() error {
		const sockets = "/proc/thread-self/net/tcp"
		yes = listening(sockets, int(port)) || listening(sockets+"6", int(port))
		return nil
	})
	return yes && err == nil
}

func startSquid(r *router) error {
	r.local.addName(proxyName, r.addr)
	at := netip.AddrPortFrom(r.addr, httpPort)
	file, err := r.configure("squid", `
http_port %s
dns_nameservers %s
pid_filename DIR/squid.pid
cache_log DIR/cache.log
access_log none
coredump_dir DIR
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
http_access allow all
`, at, resolver)
	if err != nil {
		return err
	}
	return r.daemon(httpPort, "squid", "-N", "-f", file)
}

func startTinyproxy(r *router) error {
	r.local.addName(proxyName, r.addr)
	at := netip.AddrPortFrom(r.addr, httpPort)
	file, err := r.configure("tinyproxy", "Listen %s\nPort %d\nTimeout 30\nMaxClients 50\n", at.Addr(), at.Port())
	if err != nil {
		return err
	}
	return r.daemon(httpPort, "tinyproxy", "-d", "-c", file)
}

// startUnbound makes unbound the network's whole resolver.
func startUnbound(r *router) error {
	r.names = nil
	file, err := r.configure("unbound", `
server:
  interface: %s
  access-control: ::/0 allow
  module-config: "dns64 iterator"
  dns64-prefix: %s
  username: ""
  chroot: ""
  directory: "DIR"
  pidfile: ""
  use-syslog: no
  qname-minimisation: no
forward-zone:
  name: "."
  forward-addr: %s
remote-control:
  control-enable: no
`, r.addr, nat64Prefix, resolver)
	if err != nil {
		return err
	}
	return r.daemon(53, "unbound", "-d", "-c", file)
}

// startTayga translates on a TUN device of the name that our box's link has.
func startTayga(r *router) error {
	file, err := r.configure("tayga", `
tun-device %s
ipv4-addr %s
ipv6-addr fd64::1
prefix %s
dynamic-pool %s
data-dir DIR
`, nat64Link, nat64Pool.Addr().Next(), nat64Prefix, nat64Pool)
	if err != nil {
		return err
	}
	mktun := r.command("tayga", "-c", file, "--mktun")
	if err := r.ns.do(mktun.Run); err != nil {
		return fmt.Errorf("make tayga's device: %w", err)
	}
	err = r.ns.edit(func(h *netlink.Handle) error {
		l, err := h.LinkByName(nat64Link)
		if err != nil {
			return err
		}
		to := func(p netip.Prefix) error {
			return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(p), Scope: netlink.SCOPE_LINK})
		}
		return errors.Join(setUp(h, nat64Link), to(nat64Pool), to(nat64Prefix))
	})
	if err != nil {
		return fmt.Errorf("route to tayga: %w", err)
	}
	return r.daemon(0, "tayga", "-c", file, "-d")
}

// startMiniupnpd makes the table that miniupnpd adds its rules to, as its init
// script would.
func startMiniupnpd(r *router) error {
	conn, err := nftables.New(nftables.WithNetNSFd(r.ns.fd))
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "miniupnpd", Family: nftables.TableFamilyINet})
	conn.AddChain(&nftables.Chain{Name: "forward", Table: table})
	conn.AddChain(&nftables.Chain{Name: "postrouting", Table: table})
	conn.AddChain(&nftables.Chain{Name: "prerouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make miniupnpd's table: %w", err)
	}
	file, err := r.configure("miniupnpd", `
ext_ifname=%s
listening_ip=%s
http_port=%d
enable_upnp=yes
enable_natpmp=yes
force_igd_desc_v1=yes
secure_mode=yes
min_lifetime=1
uuid=6c616200-0000-4000-8000-000000000004
lease_file=DIR/leases
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=forward
upnp_nat_chain=prerouting
upnp_nat_postrouting_chain=postrouting
allow 1-65535 0.0.0.0/0 1-65535
`, wan, lan, devicePort)
	if err != nil {
		return err
	}
	return r.daemon(devicePort, "miniupnpd", "-d", "-f", file, "-P", filepath.Dir(file)+"/pid")
}
