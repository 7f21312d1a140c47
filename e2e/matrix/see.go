package matrix

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// Seen is what a run showed, by its trace alone.
type Seen struct {
	Join       bool                                `json:"join"`                  // the donor had a connection to a relay that it did not refuse
	Transports []string                            `json:"transports,omitempty"`  // by which it held reservations, the first one first
	Route      string                              `json:"route,omitempty"`       // by which proxy
	ReservedMS float64                             `json:"reserved_ms,omitempty"` // from the donor's start to its first reservation, by its clock
	Direct     []string                            `json:"direct,omitempty"`      // transports of direct connections between donor and submitter
	DirectMS   float64                             `json:"direct_ms,omitempty"`   // from the circuit between them to the first of these
	Verdicts   map[evidence.Claim]evidence.Verdict `json:"verdicts,omitempty"`    // of every claim, as e2e/check judged
	Observed   map[evidence.Claim]string           `json:"observed,omitempty"`    // its reasons, where a claim did not pass
	Way        string                              `json:"way,omitempty"`         // the donor's own explanation of how it got out, or of what failed
	Phase      Phase                               `json:"phase"`                 // how far the run came
	HeldMS     float64                             `json:"held_ms,omitempty"`     // of the hold, so far
}

// Phase is how far a run has come, as its events tell.
type Phase string

const (
	Waiting  Phase = "waiting"   // for its turn
	Building Phase = "lab"       // the lab is being built
	Deploy   Phase = "deploy"    // hosts are reached and equipped
	Join     Phase = "join"      // the donor looks for a relay
	Controls Phase = "controls"  // it has a reservation; dials and the first job
	Holding  Phase = "hold"      //
	Again    Phase = "job"       // after the hold
	TearDown Phase = "tear down" //
	Done     Phase = "done"      //
)

// Watcher turns a run's events into what was seen. It knows no clock: the same
// events give the same Seen, while the run goes on or years later.
type Watcher struct {
	seen   Seen
	roles  map[string]string // host -> role
	peers  map[string]string // role -> peer ID of its node, of donor and submitter
	relays map[string]bool   // peer IDs of relays

	joined  map[connKey]bool          // connections to relays
	started time.Time                 // the donor's node, by its clock
	conns   map[connKey]wire.Event    // conn.opened of the donor's and the submitter's
	circuit map[string]time.Time      // role -> its first circuit with the other one, by its own clock
	upgrade map[string]time.Duration  // role -> from that to the direct connection
	held    time.Time                 // hold.started
	way     *wire.WayStatus           // of the donor's last status
	fails   map[string]map[string]int // transport -> failure -> how often, of the donor's dials
}

type connKey struct{ role, boot, conn string }

// NewWatcher watches a run that has not begun.
func NewWatcher() *Watcher {
	return &Watcher{
		seen: Seen{Phase: Waiting}, roles: map[string]string{}, joined: map[connKey]bool{}, peers: map[string]string{}, relays: map[string]bool{},
		conns: map[connKey]wire.Event{}, circuit: map[string]time.Time{}, upgrade: map[string]time.Duration{}, fails: map[string]map[string]int{},
	}
}

// See gives what a whole trace shows, with the verdicts on it.
func See(events []evidence.Event, results evidence.Results) Seen {
	w := NewWatcher()
	for _, e := range events {
		w.Take(e)
	}
	s := w.Seen()
	s.Verdicts, s.Observed = map[evidence.Claim]evidence.Verdict{}, map[evidence.Claim]string{}
	for _, a := range results.Assertions {
		s.Verdicts[a.Name] = a.Verdict
		if a.Verdict != evidence.Pass {
			s.Observed[a.Name] = a.Observed
		}
	}
	return s
}

// Seen is what the events so far have shown. It has no verdicts: those are made
// of a whole trace.
func (w *Watcher) Seen() Seen {
	s := w.seen
	s.Transports, s.Direct = slices.Clone(s.Transports), slices.Clone(s.Direct)
	s.Join = len(w.joined) > 0
	s.Way = w.explanation()
	return s
}

// Build notes that the lab is being built, of which no trace tells.
func (w *Watcher) Build() { w.seen.Phase = Building }

// Take takes the next event. What cannot be read is left to the verdicts, one of
// which is about that.
func (w *Watcher) Take(e evidence.Event) {
	switch e.Name {
	case evidence.RunStarted:
		w.begin(e)
	case evidence.NodeUp:
		w.nodeUp(e)
	case evidence.NodeSaid:
		if v, ok := decoded[wire.Event](e); ok {
			w.nodeSaid(w.roles[e.Host], v)
		}
	case evidence.NodeStatus:
		if st, ok := decoded[wire.Status](e); ok && w.roles[e.Host] == donor {
			w.way = st.Way
		}
	case evidence.HoldStarted:
		w.seen.Phase, w.held = Holding, e.TS
	case evidence.HoldEnded:
		w.seen.Phase = Again
		w.hold(e.TS)
	case evidence.LogCollected:
		w.seen.Phase = TearDown
	case evidence.RunEnded:
		w.seen.Phase = Done
	}
}

const (
	donor     = "donor"
	submitter = "submitter"
	relay     = "relay"
)

func (w *Watcher) begin(e evidence.Event) {
	w.seen.Phase = Deploy
	if v, ok := decoded[evidence.Started](e); ok {
		for _, h := range v.Hosts {
			w.roles[h.Name] = h.Role
		}
	}
}

func (w *Watcher) nodeUp(e evidence.Event) {
	v, ok := decoded[evidence.NodeStart](e)
	if !ok {
		return
	}
	if v.Role == relay {
		w.relays[v.PeerID] = true
		return
	}
	w.peers[v.Role] = v.PeerID
	if v.Role == donor && w.seen.Phase == Deploy {
		w.seen.Phase = Join
	}
}

func (w *Watcher) nodeSaid(role string, e wire.Event) {
	if role != donor && role != submitter {
		return
	}
	switch e.Kind {
	case wire.NodeStarted:
		if role == donor && w.started.IsZero() {
			w.started = e.Time
		}
	case wire.ConnOpened:
		w.conns[connKey{role, e.Boot, e.Conn}] = e
		w.connected(role, e)
	case wire.RelayInspected:
		if e.Outcome == wire.Failed { // an interceptor that it does not put up with
			delete(w.joined, connKey{role, e.Boot, e.Conn})
		}
	case wire.ReservationMade:
		if role == donor && !e.Renewal {
			w.reserved(e)
		}
	case wire.DialEnded:
		if role == donor && e.Outcome == wire.Failed {
			w.failed(e)
		}
	case wire.RelayPing:
		if role == donor && w.seen.Phase == Holding {
			w.hold(e.Time) // the donor's clock: in a lab, the suite's
		}
	}
}

// connected looks at a connection of the donor or the submitter.
func (w *Watcher) connected(role string, e wire.Event) {
	if role == donor && e.Relay == "" && w.relays[e.Peer] {
		w.joined[connKey{role, e.Boot, e.Conn}] = true
	}
	other := w.peers[map[string]string{donor: submitter, submitter: donor}[role]]
	if other == "" || e.Peer != other {
		return
	}
	first, met := w.circuit[role]
	switch {
	case e.Relay != "" && (!met || e.Time.Before(first)):
		w.circuit[role] = e.Time
	case e.Relay == "" && !slices.Contains(w.seen.Direct, e.Transport):
		w.seen.Direct = append(w.seen.Direct, e.Transport)
		slices.Sort(w.seen.Direct)
	}
	w.timeUpgrade(role, e)
}

// timeUpgrade measures from the first circuit to the first direct connection, by
// the clock of the end that knows both; the slower end's word counts.
func (w *Watcher) timeUpgrade(role string, e wire.Event) {
	from, met := w.circuit[role]
	if _, known := w.upgrade[role]; e.Relay != "" || !met || known || e.Time.Before(from) {
		return
	}
	w.upgrade[role] = e.Time.Sub(from)
	w.seen.DirectMS = max(w.seen.DirectMS, ms(w.upgrade[role]))
}

func (w *Watcher) reserved(e wire.Event) {
	if w.seen.Phase == Join {
		w.seen.Phase = Controls
	}
	if w.seen.ReservedMS == 0 && !w.started.IsZero() {
		w.seen.ReservedMS = ms(e.Time.Sub(w.started))
	}
	c, ok := w.conns[connKey{donor, e.Boot, e.Conn}]
	if !ok {
		return
	}
	if len(w.seen.Transports) == 0 {
		w.seen.Route = c.Route
	}
	if !slices.Contains(w.seen.Transports, c.Transport) {
		w.seen.Transports = append(w.seen.Transports, c.Transport)
	}
}

func (w *Watcher) failed(e wire.Event) {
	if w.fails[e.Transport] == nil {
		w.fails[e.Transport] = map[string]int{}
	}
	w.fails[e.Transport][e.Failure]++
}

func (w *Watcher) hold(now time.Time) {
	if !w.held.IsZero() {
		w.seen.HeldMS = max(w.seen.HeldMS, ms(now.Sub(w.held)))
	}
}

// explanation is what the donor says of its way out; without one, how its dials
// failed.
func (w *Watcher) explanation() string {
	if w.way != nil {
		return w.way.Why
	}
	var parts []string
	for _, transport := range sortedKeys(w.fails) {
		if transport == "" || transport == "circuit" {
			continue
		}
		parts = append(parts, transport+": "+strings.Join(sortedKeys(w.fails[transport]), ", "))
	}
	if len(w.joined) > 0 || len(parts) == 0 {
		return ""
	}
	return "nothing got out: " + strings.Join(parts, "; ")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func decoded[T any](e evidence.Event) (v T, ok bool) {
	return v, json.Unmarshal(e.Data, &v) == nil
}
