package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// Network does to what lies between the hosts what an inventory asks for. It
// knows hosts and networks by the names that they have in the inventory's lab.
// Only a simulated internet lets anybody do this.
type Network interface {
	Unplug(ctx context.Context, host string) error
	Plug(ctx context.Context, host string) error
	Move(ctx context.Context, host, network string) (seenAt netip.Addr, err error)
	Rebind(ctx context.Context, network string) error
	Readdress(ctx context.Context, network string) (netip.Addr, error)
	SetProfile(ctx context.Context, network, profile string) error
}

// faultTimeout bounds one fault: the slowest is a restart, which is one node's
// stop and another one's start.
const faultTimeout = quickTimeout + upTimeout + quickTimeout

// faults are the faults of one step of the run, each done when its time has come.
type faults struct {
	run   *run
	relay string             // the one that is held; empty: none yet
	stop  context.CancelFunc // what has not begun will not
	doing sync.WaitGroup
}

// startFaults begins to do what the inventory has for a step that begins now.
func (r *run) startFaults(ctx context.Context, during, heldRelay string) *faults {
	f := &faults{run: r, relay: heldRelay}
	waiting, stop := context.WithCancel(ctx)
	f.stop = stop
	for _, one := range timed(r.inv.Faults, during) {
		f.doing.Go(func() {
			timer := time.NewTimer(one.After)
			defer timer.Stop()
			select {
			case <-waiting.Done():
			case <-timer.C:
				f.inject(ctx, one)
			}
		})
	}
	return f
}

// wait returns when all has been done.
func (f *faults) wait() { f.doing.Wait() }

// cancel leaves out what has not begun, and waits for what has.
func (f *faults) cancel() {
	f.stop()
	f.wait()
}

// plug is the end of an unplug.
const plug inventory.FaultKind = evidence.FaultPlug

// timed lists a step's faults. One that ends by itself comes as two.
func timed(all []inventory.Fault, during string) []inventory.Fault {
	var list []inventory.Fault
	for _, f := range all {
		if f.During != during {
			continue
		}
		list = append(list, f)
		if f.For > 0 {
			list = append(list, inventory.Fault{During: f.During, After: f.End(), Do: plug, Host: f.Host, Line: f.Line})
		}
	}
	slices.SortStableFunc(list, func(a, b inventory.Fault) int { return cmp.Compare(a.After, b.After) })
	return list
}

// inject does one thing on purpose and writes down what.
func (f *faults) inject(ctx context.Context, one inventory.Fault) {
	r := f.run
	ctx, cancel := context.WithTimeout(ctx, faultTimeout)
	defer cancel()
	host, name := f.target(one), ""
	if host != nil {
		name = host.Name
	}
	if one.Host != "" && host == nil {
		r.missed("", "fault "+string(one.Do), fmt.Errorf("no host of the inventory is %s", one.Host))
		return
	}
	if host != nil {
		host.faulty.Lock()
		defer host.faulty.Unlock()
	}
	if err := f.do(ctx, one, host); err != nil {
		r.missed(name, "fault "+string(one.Do), err)
	}
}

func (f *faults) target(one inventory.Fault) *host {
	for _, h := range f.run.hosts {
		if h.Name == one.Host || one.Host == inventory.HeldRelay && h.node != nil && h.node.peer == f.relay {
			return h
		}
	}
	return nil
}

func (f *faults) do(ctx context.Context, one inventory.Fault, host *host) error {
	switch one.Do {
	case inventory.Kill, inventory.Stop:
		return host.signal(ctx, one.Do)
	case inventory.Restart:
		return host.restart(ctx)
	case inventory.Login:
		return host.logIn(ctx)
	}
	if f.run.cfg.Network == nil {
		return fmt.Errorf("%s is done to a network, and there is none of ours", one.Do)
	}
	return f.toNetwork(ctx, one, host)
}

func (f *faults) toNetwork(ctx context.Context, one inventory.Fault, host *host) error {
	net := f.run.cfg.Network
	done := evidence.Fault{Fault: string(one.Do), Network: one.Network, To: one.To, Profile: one.Profile}
	var err error
	var addr netip.Addr
	switch one.Do {
	case inventory.Unplug:
		err = net.Unplug(ctx, host.SSH) // which is what a lab's host is called
	case plug:
		err = net.Plug(ctx, host.SSH)
	case inventory.Roam:
		addr, err = net.Move(ctx, host.SSH, one.To)
	case inventory.RebootRouter:
		err = net.Rebind(ctx, one.Network)
	case inventory.Readdress:
		addr, err = net.Readdress(ctx, one.Network)
	case inventory.SetProfile:
		err = net.SetProfile(ctx, one.Network, one.Profile)
	default:
		err = fmt.Errorf("nobody knows how to %s", one.Do)
	}
	if err != nil {
		return err
	}
	if addr.IsValid() {
		done.Addr = addr.String()
	}
	f.run.faultDone(host, done)
	return nil
}

// faultDone writes down what was done, and says it.
func (r *run) faultDone(h *host, done evidence.Fault) {
	name := ""
	if h != nil {
		name = h.Name
	}
	r.note(evidence.FaultDone, name, done)
	r.talk.Note("fault injected: " + done.Say(name))
}

// signal sends the node a signal, which the mesh has to live with.
func (h *host) signal(ctx context.Context, do inventory.FaultKind) error {
	signal := map[inventory.FaultKind]string{inventory.Kill: "KILL", inventory.Stop: "TERM"}[do]
	if err := h.ask(ctx, nil, "host", "kill", "--dir", h.dir(), "--signal", signal); err != nil {
		return err
	}
	h.run.faultDone(h, evidence.Fault{Fault: string(do), Detail: "SIG" + signal + " to the node"})
	return nil
}

// restart ends the node in order and starts it again in its folder: with the same
// identity, and with nothing in memory.
func (h *host) restart(ctx context.Context) error {
	h.node.stopWatch() // its end is no news
	var exit exitRecord
	if err := h.ask(ctx, &exit, "host", "stop", "--dir", h.dir()); err != nil {
		h.watch(ctx) // it may go on, and needs its lease
		return err
	}
	if !exit.Asked {
		h.endedUnasked(exit.Exit)
	}
	h.run.faultDone(h, evidence.Fault{Fault: string(inventory.Restart), Detail: "the node ended: " + describe(exit.Exit)})
	_, err := h.launch(ctx)
	return err
}

// logIn does at a captive portal what somebody at the host would.
func (h *host) logIn(ctx context.Context) error {
	var in struct {
		Portal string `json:"portal"`
	}
	if err := h.ask(ctx, &in, "host", "login"); err != nil {
		return err
	}
	h.run.faultDone(h, evidence.Fault{Fault: string(inventory.Login), Detail: "at " + in.Portal})
	return nil
}
