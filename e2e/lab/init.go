//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// runInit is lab init: PID 1 of the lab. It builds the network, starts the
// hosts, serves DNS, moves frames and obeys orders until the suite is gone. Its
// exit ends every process of the lab.
func runInit() error {
	survivePipes()
	dir := os.Args[1]
	var p plan
	suite := json.NewDecoder(os.NewFile(fdOrders, "orders"))
	if err := suite.Decode(&p); err != nil {
		return errors.Join(confess(fmt.Errorf("read the plan: %w", err)), os.RemoveAll(dir)) // the suite was killed while it wrote
	}
	commands := make(chan command)
	go func() {
		hear(suite, commands)
		os.RemoveAll(dir) // the suite does so too, unless it was killed
		os.Exit(0)
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	net, err := raise(p, log)
	if err != nil {
		return confess(err)
	}
	if err := net.serveCaptures(log); err != nil {
		return confess(err)
	}
	err = say(status{Ready: true})
	for err == nil {
		err = say(net.obey(<-commands))
	}
	return err
}

// survivePipes keeps a broken stderr from killing this process before it has
// cleaned up. A handler, unlike ignoring, is not inherited by what it starts.
func survivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// raise builds the lab. On an error the process exits, and with it all that stood.
func raise(p plan, log *slog.Logger) (*network, error) {
	if err := ownProc(); err != nil {
		return nil, err
	}
	net, err := newNetwork(p)
	if err != nil {
		return nil, err
	}
	links := make(chan error, 1)
	go func() { links <- net.connect() }()
	hosts, err := net.boot()
	if err := errors.Join(err, <-links); err != nil {
		return nil, err
	}
	for _, w := range net.wires {
		w.run(func(err error) { log.Error("a wire broke", "err", err) })
	}
	zone := newZone(p)
	net.zone = zone
	if err := net.startServices(zone, func(err error) { log.Error("a service stopped", "err", err) }); err != nil {
		return nil, err
	}
	return net, settle(p, hosts, zone, log)
}

// ownProc separates this process's mounts from the machine's, and gives it a
// /proc that shows the lab's own processes.
func ownProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separate the lab's mounts from the machine's: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the lab's own /proc: %w", err)
	}
	return nil
}

// hostProcess is a host's PID 1, as lab init sees it.
type hostProcess struct {
	machine machine
	cmd     *exec.Cmd
	orders  *json.Encoder
	status  *json.Decoder
	pipes   []*os.File // our ends; closing them is the host's end
}

// boot starts every host in its namespace. They mount and listen while their
// links are laid.
func (n *network) boot() ([]*hostProcess, error) {
	if n.plan.Proving {
		return nil, nil
	}
	if err := os.Mkdir(n.plan.rootDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make a mount point: %w", err)
	}
	var hosts []*hostProcess
	for i, m := range n.plan.Machines {
		h, err := n.bootOne(m, n.hosts[i])
		if err != nil {
			return nil, fmt.Errorf("start host %s: %w", m.Name, err)
		}
		hosts = append(hosts, h)
		n.inits = append(n.inits, h.cmd.Process.Pid)
	}
	return hosts, nil
}

// rootDir is the mount point that every host hides under a root of its own.
func (p plan) rootDir() string { return filepath.Join(p.Dir, "root") }

func (p plan) socket(host string) string { return filepath.Join(p.Dir, host+".sock") }

func (n *network) bootOne(m machine, ns netNS) (*hostProcess, error) {
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ordersR.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statusW.Close()
	tell, err := n.ordersFor(m)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{hostArg0}
	cmd.Env = []string{}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{ordersR, statusW}
	if !m.Bystander {
		l, err := listen(n.plan.socket(m.Name))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, l)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if err := ns.do(cmd.Start); err != nil {
		return nil, err
	}
	h := &hostProcess{machine: m, cmd: cmd, orders: json.NewEncoder(ordersW), status: json.NewDecoder(statusR), pipes: []*os.File{ordersW, statusR}}
	return h, h.orders.Encode(tell)
}

// listen opens the socket by which the suite reaches a host. The host has it by
// inheritance only: its path is not in the host's file system.
func listen(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// settle waits until every host serves, and publishes the bystanders.
func settle(p plan, hosts []*hostProcess, z *zone, log *slog.Logger) error {
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { errs[i] = h.settle(z) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, h := range hosts {
		go h.watch(log)
	}
	return nil
}

func (h *hostProcess) settle(z *zone) error {
	for {
		s, err := next(h.status)
		if err != nil {
			return fmt.Errorf("boot host %s: %w", h.machine.Name, err)
		}
		if s.Peer != "" {
			addr := h.machine.Addr.Addr()
			for _, way := range []string{"tcp/4001", "udp/4001/quic-v1"} {
				at := fmt.Sprintf("/ip4/%s/%s/p2p/%s", addr, way, s.Peer)
				z.addDNSAddr("bootstrap", at)
				z.addDNSAddr(h.machine.Name, at)
			}
		}
		if s.Ready {
			return nil
		}
	}
}

// watch waits for a host's end. It also keeps the pipes open until then: a File
// that nobody refers to closes itself.
func (h *hostProcess) watch(log *slog.Logger) {
	err := h.cmd.Wait()
	for _, p := range h.pipes {
		p.Close()
	}
	log.Warn("a host's init ended", "host", h.machine.Name, "err", err)
}
