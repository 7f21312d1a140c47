package report

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// begin is when the synthetic run starts.
var begin = time.Date(2026, 11, 22, 14, 20, 30, 0, time.UTC)

// Peers of the synthetic run.
const (
	donorID     = "12D3KooWDonorDonorDonorDonorDonorDonorDonorDoAAAA"
	submitterID = "12D3KooWSubmitSubmitSubmitSubmitSubmitSubmitSBBBB"
	relay1ID    = "12D3KooWRelayRelayRelayRelayRelayRelayRelayReCCCC"
	relay2ID    = "12D3KooWRelayRelayRelayRelayRelayRelayRelayReDDDD"
)

// history builds a trace in memory.
type history struct {
	t      *testing.T
	events []evidence.Event
	dials  int
}

func (h *history) add(at float64, host string, name evidence.Name, data any) uint64 {
	h.t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		h.t.Fatal(err)
	}
	seq := uint64(len(h.events) + 1)
	h.events = append(h.events, evidence.Event{TS: after(at), Seq: seq, Name: name, Host: host, Data: raw})
	return seq
}

// say adds a node's event, whose clock is 2 s ahead on the donor.
func (h *history) say(at float64, host, kind string, fields ...any) uint64 {
	h.t.Helper()
	clock := after(at)
	if host == "tensor02" {
		clock = clock.Add(2 * time.Second)
	}
	e := map[string]any{"ts": clock, "seq": len(h.events), "boot": "b-" + host, "event": kind}
	for i := 0; i+1 < len(fields); i += 2 {
		e[fmt.Sprint(fields[i])] = fields[i+1]
	}
	return h.add(at+0.05, host, evidence.NodeSaid, e)
}

func (h *history) dial(at, took float64, host, transport, addr, outcome, failure, err string) {
	h.t.Helper()
	h.dials++
	id := fmt.Sprintf("d%d", h.dials)
	h.say(at, host, "dial.started", "dial", id, "transport", transport, "addr", addr, "peer", relay1ID)
	if outcome != "" {
		h.say(at+took, host, "dial.ended", "dial", id, "transport", transport, "addr", addr, "peer", relay1ID,
			"outcome", outcome, "failure", failure, "err", err, "ms", took*1000)
	}
}

func after(seconds float64) time.Time {
	return begin.Add(time.Duration(seconds * float64(time.Second)))
}

// sample is a lab run in which the held relay is killed at half of the hold.
func sample(t *testing.T) *evidence.Bundle {
	h := &history{t: t}
	h.start()
	h.join()
	h.controls("before", 9)
	h.hold()
	h.controls("after", 43)
	h.end()
	return &evidence.Bundle{
		Events: h.events, Lines: len(h.events), Sealed: true, Results: results(),
		Metadata: &evidence.Metadata{SoftwareVersion: "0.1.0", Spec: "firewall-traversal", Env: map[string]string{"suite_os": "linux"}, Binaries: map[string]string{"linux/amd64": "ab12"}},
	}
}

func (h *history) start() {
	h.add(0, "", evidence.RunStarted, evidence.Started{
		RunID: "20261122T142030Z-5f1c", Inventory: "lab", Area: "firewall-traversal", Lab: true,
		Hold: evidence.Duration(30 * time.Second), Observe: evidence.Duration(30 * time.Second), Fixture: "sha256",
		Hosts: []evidence.Host{
			{Name: "tensor02", Role: "donor", Network: "campus", ExpectBlocked: []string{"inbound", "udp"}},
			{Name: "laptop", Role: "submitter", Network: "house"}, {Name: "relay1", Role: "relay", Network: "core"}, {Name: "relay2", Role: "relay", Network: "core"},
		},
		Source: evidence.Source{Commit: "0123456789abcdef", Tree: "fedc", Dirty: true, Go: "go1.26.0"},
	})
	h.add(0.4, "", evidence.LabUp, evidence.LabFacts{
		Networks: map[string]string{"campus": "institutional", "house": "home", "core": "open"},
		Hosts:    map[string]string{"tensor02": "campus", "laptop": "house", "relay1": "core", "relay2": "core"}, Latency: evidence.Duration(10 * time.Millisecond),
	})
	for i, host := range []string{"tensor02", "laptop", "relay1", "relay2"} {
		offset := 0.3
		if host == "tensor02" {
			offset = 2000
		}
		h.add(0.6, host, evidence.HostUp, evidence.Connected{Target: host, HostKey: "SHA256:abcdef"})
		h.add(0.8, host, evidence.HostFacts, evidence.Facts{
			Hostname: host, OS: "linux", Arch: "amd64", Distro: "Rocky Linux 9.6", Kernel: "5.14.0-503", CPUModel: "AMD EPYC 7763", CPUs: 2, MemoryGB: 8,
			ClockOffsetMS: offset, ClockErrorMS: 10.4, Addrs: []string{fmt.Sprintf("10.%d.0.2", i)},
		})
		h.add(0.9, host, evidence.Residue, evidence.Leftovers{When: "before"})
		h.add(1.2, host, evidence.Deployed, evidence.Deployment{Path: "~/.wce2e/bin/ab12/wce2e", SHA256: "ab12cd34ef567890", Platform: "linux/amd64", Uploaded: true})
	}
}

func (h *history) join() {
	for host, id := range map[string]string{"relay1": relay1ID} {
		h.add(1.5, host, evidence.NodeUp, evidence.NodeStart{Role: "relay", PeerID: id, Boot: "b-" + host})
	}
	h.add(1.5, "relay2", evidence.NodeUp, evidence.NodeStart{Role: "relay", PeerID: relay2ID, Boot: "b-relay2"})
	h.add(1.9, "tensor02", evidence.NodeUp, evidence.NodeStart{Role: "donor", PeerID: donorID, Boot: "b-tensor02"})
	h.add(1.9, "laptop", evidence.NodeUp, evidence.NodeStart{Role: "submitter", PeerID: submitterID, Boot: "b-laptop"})
	for _, host := range []string{"relay1", "relay2", "tensor02", "laptop"} {
		h.say(2, host, "node.started", "detail", "0.1.0")
	}
	h.dial(2.1, 5, "tensor02", "quic-v1", "/ip4/45.1.0.10/udp/4001/quic-v1", "failed", "quic_idle_timeout", "timeout: no recent network activity")
	h.dial(2.2, 5, "tensor02", "tcp", "/ip4/45.1.0.10/tcp/4001", "failed", "generic_timeout_error", "dial tcp4 45.1.0.10:4001: i/o timeout")
	h.dial(2.3, 0.12, "tensor02", "wss", "/ip4/45.1.0.10/tcp/443/tls/ws", "ok", "", "")
	h.dial(2.3, 0.3, "tensor02", "wss", "/ip4/45.1.0.11/tcp/443/tls/ws", "aborted", "aborted", "another way won")
	h.dial(2.1, 0.06, "laptop", "quic-v1", "/ip4/45.1.0.10/udp/4001/quic-v1", "ok", "", "")
	h.dial(3, 0, "laptop", "tcp", "/ip4/45.1.0.10/tcp/4001", "", "", "")
	h.say(2.45, "tensor02", "conn.opened", "conn", "c1", "peer", relay1ID, "direction", "outbound", "transport", "wss",
		"local", "/ip4/10.0.0.2/tcp/50000", "remote", "/ip4/45.1.0.10/tcp/443/tls/ws", "security", "/noise", "muxer", "/yamux/1.0.0")
	h.say(2.46, "relay1", "conn.opened", "conn", "c9", "peer", donorID, "direction", "inbound", "transport", "wss", "remote", "/ip4/45.2.0.1/tcp/50000")
	h.say(2.2, "laptop", "conn.opened", "conn", "c1", "peer", relay1ID, "direction", "outbound", "transport", "quic-v1", "remote", "/ip4/45.1.0.10/udp/4001/quic-v1")
	h.say(2.5, "relay1", "relay.reservation", "peer", donorID, "outcome", "ok")
	h.say(2.52, "tensor02", "reservation.made", "relay", relay1ID, "conn", "c1", "addrs", []string{"/ip4/45.1.0.10/tcp/443/tls/ws/p2p/" + relay1ID + "/p2p-circuit"})
}

func (h *history) controls(phase string, at float64) {
	probe := func(at float64, host string, purpose evidence.Purpose, transport string, result map[string]any) {
		raw, _ := json.Marshal(result)
		h.add(at, host, evidence.DialProbed, evidence.Probe{Purpose: purpose, Phase: evidence.Phase(phase), Transport: transport, Result: raw})
	}
	circuit := "/ip4/45.1.0.10/tcp/443/tls/ws/p2p/" + relay1ID + "/p2p-circuit/p2p/" + donorID
	if phase == "before" {
		probe(at, "laptop", evidence.NegativeControl, "tcp", map[string]any{"addr": "/ip4/45.2.0.1/tcp/4001", "outcome": "failed", "failure": "generic_timeout_error", "err": "i/o timeout", "ms": 5000})
		probe(at, "laptop", evidence.NegativeControl, "quic-v1", map[string]any{"addr": "/ip4/45.2.0.1/udp/4001/quic-v1", "outcome": "failed", "failure": "quic_idle_timeout", "err": "timeout: no recent <network> activity", "ms": 5003})
		probe(at+.1, "tensor02", evidence.LocalControl, "tcp", map[string]any{"addr": "/ip4/127.0.0.1/tcp/4001", "outcome": "ok", "path": "direct", "ms": 3.1})
		probe(at+.2, "laptop", evidence.RelayControl, "tcp", map[string]any{"addr": "/ip4/45.1.0.10/tcp/4001", "outcome": "ok", "path": "direct", "ms": 84})
	}
	probe(at+1, "laptop", evidence.CircuitDial, "circuit", map[string]any{"addr": circuit, "outcome": "ok", "path": "relayed", "relay": relay1ID, "ms": 211.5, "ping_ms": 41})
	task := "task-" + phase
	h.say(at+1.2, "laptop", "job.sent", "task", task, "path", "relayed", "peer", donorID, "relay", relay1ID)
	h.say(at+1.3, "tensor02", "job.received", "task", task, "path", "relayed", "peer", submitterID, "relay", relay1ID)
	h.say(at+1.4, "tensor02", "job.ended", "task", task, "status", "Succeeded", "ms", 12.5)
	h.say(at+1.5, "laptop", "job.ended", "task", task, "status", "Succeeded", "ms", 84.25)
	raw, _ := json.Marshal(map[string]any{"task_id": task, "status": "Succeeded", "duration_ms": 12.5, "round_trip_ms": 84.25, "path": "relayed", "relay": relay1ID, "output_sha256": "aa"})
	h.add(at+1.6, "laptop", evidence.JobDone, evidence.Job{Phase: evidence.Phase(phase), Fixture: "sha256", Nonce: "00ff" + phase, ExpectedSHA256: "aa", Result: raw})
}

func (h *history) hold() {
	hold := evidence.Hold{Planned: evidence.Duration(30 * time.Second), Relay: relay1ID, Conn: "c1"}
	ping := func(at, took float64, relay, conn, outcome, err string) {
		h.say(at, "tensor02", "relay.ping", "relay", relay, "conn", conn, "outcome", outcome, "ms", took, "err", err)
	}
	ping(7.5, 42, relay1ID, "c1", "ok", "")
	h.add(12, "tensor02", evidence.HoldStarted, hold)
	ping(12.5, 41.2, relay1ID, "c1", "ok", "")
	ping(17.5, 47.9, relay1ID, "c1", "ok", "")
	ping(22.5, 40.8, relay1ID, "c1", "ok", "")
	h.add(27, "relay1", evidence.FaultDone, evidence.Fault{Fault: "kill", Detail: "SIGKILL to the node"})
	h.add(27.1, "relay1", evidence.NodeExited, evidence.Exit{Code: -1, Signal: "KILL", Tail: "level=INFO msg=\"reservation\" <b>not bold</b>\nlast line"})
	ping(27.5, 0, relay1ID, "c1", "failed", "connection reset")
	h.say(27.6, "tensor02", "conn.closed", "conn", "c1", "peer", relay1ID, "ms", 25150, "err", "connection reset by peer")
	h.say(27.7, "tensor02", "reservation.lost", "relay", relay1ID, "conn", "c1")
	h.dial(27.8, 0.1, "tensor02", "wss", "/ip4/45.1.0.11/tcp/443/tls/ws", "ok", "", "")
	h.say(27.95, "tensor02", "conn.opened", "conn", "c2", "peer", relay2ID, "transport", "wss", "direction", "outbound", "remote", "/ip4/45.1.0.11/tcp/443/tls/ws")
	h.say(28, "tensor02", "reservation.made", "relay", relay2ID, "conn", "c2")
	ping(32.6, 43, relay2ID, "c2", "ok", "")
	ping(37.6, 44, relay2ID, "c2", "ok", "")
	h.add(42, "tensor02", evidence.HoldEnded, hold)
}

func (h *history) end() {
	for _, host := range []string{"tensor02", "laptop", "relay2"} {
		h.say(46, host, "node.stopped")
		h.add(47, host, evidence.LogCollected, evidence.LogFile{File: "logs/" + host + ".log.gz", SHA256: "cd", Size: 123456, Kept: 123456})
		h.add(47, host, evidence.Residue, evidence.Leftovers{When: "after", Files: map[string]string{"~/.wce2e/bin/ab12/wce2e": "ab12"}})
	}
	h.add(48, "", evidence.RunEnded, evidence.Ended{How: "finished"})
}

func results() *evidence.Results {
	r := &evidence.Results{Overall: "fail", Label: evidence.NotAccepted}
	for i, c := range evidence.Claims {
		a := evidence.Assertion{Name: c, Expected: "what the claim " + string(c) + " expects to be seen, in a sentence", Observed: "2 of 2 direct dials failed, 1 relay was reached over tcp | and <b>no</b> markup", Verdict: evidence.Pass, Pass: true}
		for j := range 3 + 15*i {
			a.Because = append(a.Because, uint64(20+j))
		}
		r.Assertions = append(r.Assertions, a)
	}
	r.Assertions[2].Verdict, r.Assertions[2].Pass = evidence.Fail, false
	r.Assertions[2].Observed = "the held connection c1 was proven for 15 s of 30 s, and closed: connection reset by peer"
	r.Assertions[4].Verdict, r.Assertions[4].Pass = evidence.Inconclusive, false
	return r
}
