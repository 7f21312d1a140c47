package check

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// story is a run as it might have been, open to changes until it is told.
//
//	tensor02 (campus, 45.1.0.2) ──► relay1 (45.9.0.10) ◄── laptop (house, 45.2.0.2)
type story struct {
	items    []*item
	logs     map[string]string // overrides; else the log is made from the events
	noLog    map[string]bool
	problems []string
	answers  Answers
	tweak    map[string]func(*evidence.LogFile) // of log.collected, by host
	hashes   map[string]func(*evidence.LogFile) // of events.hashed, by host
	rawSeq   bool                               // keep the nodes' sequence numbers as they are
}

// item is a line of the trace. Of a probe or a job, result is the result that
// goes into data.
type item struct {
	at     time.Time
	name   evidence.Name
	host   string
	data   any
	result any
}

const (
	donorName, submitterName, relayName = "tensor02", "laptop", "relay1"

	donorIP, submitterIP, relayIP = "45.1.0.2", "45.2.0.2", "45.9.0.10"
)

// identities are made from fixed seeds, so that goldens stay.
var (
	donorKey, donorID         = identity(1)
	_, submitterID            = identity(2)
	relayKey, relayID         = identity(3)
	strangerKey, strangerID   = identity(4)
	_, afterID                = identity(11)
	_, beforeID               = identity(10)
	epoch                     = time.Date(2026, 11, 22, 14, 20, 30, 0, time.UTC)
	nonceBefore, nonceAfter   = strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	circuitAddr               = "/ip4/45.9.0.10/tcp/443/tls/ws/p2p/" + relayID + "/p2p-circuit/p2p/" + donorID
	donorEnd, relayEnd        = "/ip4/45.1.0.2/tcp/50123", "/ip4/45.9.0.10/tcp/443/tls/ws"
	donorOffset, relayOffset  = 1500 * time.Millisecond, -800 * time.Millisecond
	reservationLife           = time.Hour
	holdPlanned               = 10 * time.Minute
	holdBegins, holdEnds      = 30 * time.Second, 30*time.Second + 10*time.Minute
	relayConn, donorConn      = "c4", "c7"
	hostOffsets               = map[string]time.Duration{donorName: donorOffset, relayName: relayOffset}
	binary                    = sha("the binary")
	moduleSHA, inputSHAPrefix = sha("the module"), "input "
)

func identity(seed byte) (crypto.PrivKey, string) {
	key, _, err := crypto.GenerateEd25519Key(mathrand.NewChaCha8([32]byte{seed}))
	if err != nil {
		panic(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return key, id.String()
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// fixtureAnswers stands in for the fixtures' own.
func fixtureAnswers(fixture string, nonce []byte) (output, module, input string, err error) {
	if fixture != "sha256" {
		return "", "", "", fmt.Errorf("no fixture %q", fixture)
	}
	return sha("answer " + hex.EncodeToString(nonce)), moduleSHA, sha(inputSHAPrefix + hex.EncodeToString(nonce)), nil
}

// add appends a line at a time of the suite's clock since epoch.
func (s *story) add(at time.Duration, name evidence.Name, host string, data any) *item {
	it := &item{at: epoch.Add(at), name: name, host: host, data: data}
	s.items = append(s.items, it)
	return it
}

// says appends an event of a host's node, stamped by its own clock.
func (s *story) says(at time.Duration, host string, e wire.Event) {
	e.Time = epoch.Add(at).Add(hostOffsets[host])
	e.Boot = "boot-" + host
	s.add(at, evidence.NodeSaid, host, &e)
}

func (s *story) dials(at time.Duration, host, id, to, addr, transport string, outcome wire.Outcome, failure string) {
	s.says(at, host, wire.Event{Kind: wire.DialStarted, Dial: id, Peer: to, Addr: addr, Transport: transport})
	end := wire.Event{Kind: wire.DialEnded, Dial: id, Peer: to, Addr: addr, Transport: transport, Outcome: outcome, Failure: failure, MS: 41}
	if outcome != wire.OK {
		end.Err = "dial " + addr + ": i/o timeout"
	}
	s.says(at+41*time.Millisecond, host, end)
}

func (s *story) probes(at time.Duration, host string, p evidence.Probe, r wire.DialResult) {
	it := s.add(at, evidence.DialProbed, host, &p)
	it.result = &r
}

// passing is a run of which every claim passes.
func passing() *story {
	s := &story{logs: map[string]string{}, noLog: map[string]bool{}, answers: fixtureAnswers,
		tweak: map[string]func(*evidence.LogFile){}, hashes: map[string]func(*evidence.LogFile){}}
	s.add(0, evidence.RunStarted, "", &evidence.Started{
		RunID: "r1", Inventory: "lab", Area: "firewall-traversal", Hold: evidence.Duration(holdPlanned), Fixture: "sha256",
		Hosts: []evidence.Host{
			{Name: donorName, Role: "donor", Network: "campus", ExpectBlocked: []string{"inbound", "udp", "tcp-high-ports"}},
			{Name: submitterName, Role: "submitter", Network: "house"},
			{Name: relayName, Role: "relay", Network: "core"},
		},
	})
	for _, h := range []string{donorName, submitterName, relayName} {
		s.add(time.Second, evidence.HostFacts, h, &evidence.Facts{ClockOffsetMS: float64(hostOffsets[h].Milliseconds()), ClockErrorMS: 11})
		s.add(time.Second, evidence.Deployed, h, &evidence.Deployment{Path: "~/.wce2e/bin/wce2e", SHA256: binary, Platform: "linux/amd64"})
		s.add(time.Second, evidence.Residue, h, s.leftovers("before"))
	}
	s.startNodes()
	s.controls()
	s.useCircuit(20*time.Second, evidence.BeforeHold, beforeID, nonceBefore)
	s.hold()
	s.useCircuit(holdEnds+time.Second, evidence.AfterHold, afterID, nonceAfter)
	s.tearDown(holdEnds + 10*time.Second)
	return s
}

func (s *story) leftovers(when string) *evidence.Leftovers {
	return &evidence.Leftovers{When: when, Files: map[string]string{"~/.wce2e/bin/wce2e": binary}, Allowed: []string{"~/.wce2e/bin/wce2e"}}
}

func (s *story) startNodes() {
	at := 2 * time.Second
	for _, n := range []struct{ host, role, id string }{{relayName, "relay", relayID}, {donorName, "donor", donorID}, {submitterName, "donor", submitterID}} {
		s.says(at, n.host, wire.Event{Kind: wire.NodeStarted, Peer: n.id})
		s.add(at+100*time.Millisecond, evidence.NodeUp, n.host, &evidence.NodeStart{Role: n.role, PeerID: n.id, Boot: "boot-" + n.host})
	}
	for _, a := range []string{"/ip4/127.0.0.1/tcp/4001", "/ip4/10.1.0.5/tcp/4001", "/ip4/10.1.0.5/udp/4001/quic-v1"} {
		s.says(3*time.Second, donorName, wire.Event{Kind: wire.ListenAddr, Addr: a + "/p2p/" + donorID})
	}
	s.dials(3*time.Second, donorName, "d00001", relayID, "/ip4/45.9.0.10/udp/4001/quic-v1", "quic-v1", wire.Failed, "quic_idle_timeout")
	s.dials(3*time.Second, donorName, "d00002", relayID, "/ip4/45.9.0.10/tcp/4001", "tcp", wire.Aborted, "aborted")
	s.dials(3*time.Second, donorName, "d00003", relayID, relayEnd, "wss", wire.OK, "")
	s.dials(3*time.Second, submitterName, "d00001", relayID, "/ip4/45.9.0.10/tcp/4001", "tcp", wire.OK, "")
	opened := 3100 * time.Millisecond
	s.says(opened, relayName, wire.Event{Kind: wire.ConnOpened, Conn: relayConn, Peer: donorID, Direction: "inbound", Remote: donorEnd + "/tls/ws", Transport: "wss"})
	s.says(opened, relayName, wire.Event{Kind: wire.ConnOpened, Conn: "c5", Peer: submitterID, Direction: "inbound", Remote: "/ip4/45.2.0.2/tcp/41000", Transport: "tcp"})
	s.says(opened, donorName, wire.Event{Kind: wire.ConnOpened, Conn: donorConn, Peer: relayID, Direction: "outbound", Remote: relayEnd, Transport: "wss"})
	s.says(opened, donorName, wire.Event{Kind: wire.ObservedAddr, Addr: donorEnd, Peer: relayID, Conn: donorConn})
	s.says(opened, submitterName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip4/45.2.0.2/tcp/41000", Peer: relayID, Conn: "c1"})
	expires := epoch.Add(reservationLife)
	s.says(4*time.Second, relayName, wire.Event{Kind: wire.RelayReservation, Peer: donorID, Conn: relayConn, Outcome: wire.OK, Expires: expires})
	s.says(4*time.Second, donorName, wire.Event{Kind: wire.ReservationMade, Relay: relayID, Conn: donorConn, Expires: expires,
		Voucher: voucher(relayKey, relayID, donorID, expires)})
	s.says(4*time.Second, donorName, wire.Event{Kind: wire.ListenAddr, Addr: circuitAddr, Relay: relayID})
}

// voucher signs a reservation voucher.
func voucher(key crypto.PrivKey, relay, holder string, expires time.Time) []byte {
	id := func(s string) peer.ID {
		p, err := peer.Decode(s)
		if err != nil {
			panic(err)
		}
		return p
	}
	e, err := record.Seal(&proto.ReservationVoucher{Relay: id(relay), Peer: id(holder), Expiration: expires}, key)
	if err != nil {
		panic(err)
	}
	b, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func (s *story) controls() {
	at := 10 * time.Second
	n := byte(100)
	dial := func(host string, purpose evidence.Purpose, blocked, addr, to string, r wire.DialResult) {
		n++
		_, r.Self = identity(n)
		a, _ := parseAddr(addr)
		r.Addr, r.Peer, r.Transport = addr+"/p2p/"+to, to, a.transport
		s.probes(at, host, evidence.Probe{Purpose: purpose, Phase: evidence.BeforeHold, Transport: a.transport, Blocked: blocked}, r)
	}
	ok := wire.DialResult{Outcome: wire.OK, Path: wire.Direct, MS: 41, Remote: "/ip4/1.1.1.1/tcp/1"}
	lost := wire.DialResult{Outcome: wire.Failed, Failure: "generic_timeout_error", Err: "i/o timeout", MS: 5000}
	idle := wire.DialResult{Outcome: wire.Failed, Failure: "quic_idle_timeout", Err: "timeout: no recent network activity", MS: 5000}
	seen := ok
	seen.Observed = "/ip4/45.2.0.2/tcp/41001"
	dial(submitterName, evidence.NegativeControl, "", "/ip4/45.1.0.2/tcp/4001", donorID, lost)
	dial(submitterName, evidence.NegativeControl, "", "/ip4/45.1.0.2/udp/4001/quic-v1", donorID, idle)
	dial(submitterName, evidence.NegativeControl, "", donorEnd, donorID, lost)
	dial(donorName, evidence.LocalControl, "", "/ip4/127.0.0.1/tcp/4001", donorID, ok)
	dial(donorName, evidence.LocalControl, "", "/ip4/10.1.0.5/udp/4001/quic-v1", donorID, ok)
	dial(donorName, evidence.ExpectBlocked, "udp", "/ip4/45.9.0.10/udp/4001/quic-v1", relayID, idle)
	dial(donorName, evidence.ExpectBlocked, "tcp-high-ports", "/ip4/45.9.0.10/tcp/4001", relayID, lost)
	dial(submitterName, evidence.RelayControl, "", "/ip4/45.9.0.10/tcp/4001", relayID, seen)
	dial(submitterName, evidence.RelayControl, "", "/ip4/45.9.0.10/udp/4001/quic-v1", relayID, seen)
}

func (s *story) useCircuit(at time.Duration, phase evidence.Phase, self, nonce string) {
	s.says(at, relayName, wire.Event{Kind: wire.RelayCircuitOpened, Circuit: "r-" + string(phase), Peer: self, Target: donorID, Remote: "/ip4/45.2.0.2/tcp/42000"})
	s.says(at, donorName, wire.Event{Kind: wire.ConnOpened, Conn: "x-" + string(phase), Peer: self, Direction: "inbound", Relay: relayID,
		Remote: relayEnd + "/p2p/" + relayID + "/p2p-circuit", Transport: "circuit"})
	s.probes(at+time.Second, submitterName, evidence.Probe{Purpose: evidence.CircuitDial, Phase: phase, Transport: "circuit"}, wire.DialResult{
		Self: self, Addr: circuitAddr, Peer: donorID, Outcome: wire.OK, Path: wire.Relayed, Relay: relayID, Transport: "circuit",
		Remote: circuitAddr, Observed: "/ip4/45.2.0.2/tcp/42000", MS: 120, PingMS: 41,
	})
	raw, _ := hex.DecodeString(nonce)
	output, module, input, _ := fixtureAnswers("sha256", raw)
	ev := wire.Event{Task: "wce2e-" + nonce, Relay: relayID, Path: wire.Relayed, Conn: "j-" + string(phase), ModuleSHA256: module, InputSHA256: input}
	record := func(host string, kind wire.Kind, other, status, out string) {
		e := ev
		e.Kind, e.Peer, e.Status, e.OutputSHA256 = kind, other, status, out
		s.says(at+2*time.Second, host, e)
	}
	s.says(at+2*time.Second, donorName, wire.Event{Kind: wire.ConnOpened, Conn: ev.Conn, Peer: submitterID, Direction: "inbound", Relay: relayID, Transport: "circuit"})
	record(submitterName, wire.JobSent, donorID, "", "")
	record(donorName, wire.JobReceived, submitterID, "", "")
	record(donorName, wire.JobEnded, submitterID, "Succeeded", output)
	record(submitterName, wire.JobEnded, donorID, "Succeeded", output)
	it := s.add(at+3*time.Second, evidence.JobDone, submitterName, &evidence.Job{
		Phase: phase, Fixture: "sha256", Nonce: nonce, ModuleSHA256: module, InputSHA256: input, ExpectedSHA256: output,
	})
	it.result = &wire.DispatchResult{TaskID: ev.Task, Status: "Succeeded", DurationMS: 3, RoundTripMS: 90, Path: wire.Relayed, Relay: relayID,
		Peer: donorID, Conn: "c9", OutputSHA256: output}
}

func (s *story) hold() {
	mark := evidence.Hold{Planned: evidence.Duration(holdPlanned), Relay: relayID, Conn: donorConn}
	s.add(holdBegins, evidence.HoldStarted, donorName, &mark)
	for at := holdBegins; at <= holdEnds; at += 5 * time.Second {
		s.says(at+time.Millisecond, donorName, wire.Event{Kind: wire.RelayPing, Relay: relayID, Conn: donorConn, Outcome: wire.OK, MS: 40 + float64(at/time.Second%7)})
	}
	end := mark
	s.add(holdEnds+500*time.Millisecond, evidence.HoldEnded, donorName, &end)
}

func (s *story) tearDown(at time.Duration) {
	for _, h := range []string{donorName, submitterName, relayName} {
		if h == donorName {
			s.says(at, h, wire.Event{Kind: wire.ConnClosed, Conn: donorConn, Peer: relayID, MS: 1})
		}
		if h == relayName {
			s.says(at, h, wire.Event{Kind: wire.ConnClosed, Conn: relayConn, Peer: donorID, MS: 1})
		}
		s.says(at, h, wire.Event{Kind: wire.NodeStopped})
	}
	for _, h := range []string{donorName, submitterName, relayName} {
		s.add(at+time.Second, evidence.EventsHashed, h, &evidence.LogFile{})
		s.add(at+time.Second, evidence.LogCollected, h, &evidence.LogFile{File: "logs/" + h + ".log.gz"})
		s.add(at+2*time.Second, evidence.Residue, h, s.leftovers("after"))
	}
	s.add(at+3*time.Second, evidence.RunEnded, "", &evidence.Ended{How: "finished"})
}

// said changes or drops events of a host's node: change returns false to drop.
func (s *story) said(host string, kind wire.Kind, change func(*wire.Event) bool) {
	s.each(func(it *item) bool {
		e, ok := it.data.(*wire.Event)
		if !ok || it.host != host || e.Kind != kind {
			return true
		}
		return change(e)
	})
}

// each changes or drops lines: change returns false to drop.
func (s *story) each(change func(*item) bool) {
	var kept []*item
	for _, it := range s.items {
		if change(it) {
			kept = append(kept, it)
		}
	}
	s.items = kept
}

// drop takes away every line of a name, of one host unless host is empty.
func (s *story) drop(name evidence.Name, host string) {
	s.each(func(it *item) bool { return it.name != name || host != "" && it.host != host })
}

// probed changes or drops probes of a purpose whose address holds part.
func (s *story) probed(purpose evidence.Purpose, part string, change func(*evidence.Probe, *wire.DialResult) bool) {
	s.each(func(it *item) bool {
		p, ok := it.data.(*evidence.Probe)
		if !ok || p.Purpose != purpose || !strings.Contains(it.result.(*wire.DialResult).Addr, part) {
			return true
		}
		return change(p, it.result.(*wire.DialResult))
	})
}

// worked changes or drops the job of a phase.
func (s *story) worked(phase evidence.Phase, change func(*evidence.Job, *wire.DispatchResult) bool) {
	s.each(func(it *item) bool {
		j, ok := it.data.(*evidence.Job)
		return !ok || j.Phase != phase || change(j, it.result.(*wire.DispatchResult))
	})
}

// insert puts the lines that add adds before the first line that fits.
func (s *story) insert(fits func(*item) bool, add func()) {
	for i, it := range s.items {
		if fits(it) {
			rest := s.items[i:]
			s.items = s.items[:i:i]
			add()
			s.items = append(s.items, rest...)
			return
		}
	}
	panic("no line fits")
}

func named(name evidence.Name) func(*item) bool {
	return func(it *item) bool { return it.name == name }
}

func (s *story) started() *evidence.Started { return s.items[0].data.(*evidence.Started) }
