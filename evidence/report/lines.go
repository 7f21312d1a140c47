package report

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// line is one line of the trace as the table of events shows it.
type line struct {
	Seq   uint64
	Since string
	Host  string
	Event string
	Text  string
	State string // of the dial, job ... that it tells of: ok, failed, aborted; empty where there is none
}

func (s *story) line(e evidence.Event) line {
	l := line{Seq: e.Seq, Since: s.since(e.TS), Host: e.Host, Event: string(e.Name)}
	if e.Name == evidence.NodeSaid {
		if v := decoded[said](e); v != nil {
			l.Event, l.Text, l.State = v.Kind, s.sayNode(*v), v.Outcome
			return l
		}
	}
	l.Text, l.State = s.say(e)
	return l
}

// words joins what is not empty.
func words(list ...string) string {
	var kept []string
	for _, w := range list {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// with puts a label before a value that is there.
func with(label, value string) string {
	if value == "" {
		return ""
	}
	return label + " " + value
}

func (s *story) sayNode(v said) string {
	took := ""
	if v.MS != 0 {
		took = millis(v.MS)
	}
	renewal := ""
	if v.Renewal {
		renewal = "renewal"
	}
	sent := ""
	if v.Bytes > 0 {
		sent = size(int64(min(v.Bytes, 1<<62)))
	}
	return words(v.Outcome, v.Status, v.Direction, v.Transport, v.Addr, v.Remote,
		with("peer", s.peer(v.Peer)), with("target", s.peer(v.Target)), with("via relay", s.peer(v.Relay)), v.Path,
		with("dial", v.Dial), with("conn", v.Conn), with("circuit", v.Circuit), with("task", v.Task),
		renewal, strings.Join(v.Addrs, " "), sent, took, v.Failure, v.Err, v.Detail)
}

func (s *story) peer(id string) string {
	if id == "" {
		return ""
	}
	return s.who(id)
}

// say tells of the suite's own events.
func (s *story) say(e evidence.Event) (text, state string) {
	switch e.Name {
	case evidence.RunStarted:
		if v := decoded[evidence.Started](e); v != nil {
			return fmt.Sprintf("%s, hold %s, job %s, %s", v.RunID, v.Hold, v.Fixture, count(len(v.Hosts), "host", "hosts")), ""
		}
	case evidence.HostUp:
		if v := decoded[evidence.Connected](e); v != nil {
			return words(v.Target, v.HostKey), ""
		}
	case evidence.HostFacts:
		if v := decoded[evidence.Facts](e); v != nil {
			return fmt.Sprintf("%s %s/%s %s, clock %+.1f ms", v.Hostname, v.OS, v.Arch, v.Kernel, v.ClockOffsetMS), ""
		}
	case evidence.NodeStatus:
		if v := decoded[nodeStatus](e); v != nil {
			return words(with("reachability", v.Reachability), count(len(v.Peers), "connection,", "connections,"), count(len(v.CircuitAddrs), "circuit address", "circuit addresses")), ""
		}
	case evidence.DialProbed:
		return s.sayProbe(e)
	case evidence.NetProbed:
		return sayNetwork(e), ""
	case evidence.JobDone:
		return s.sayJob(e)
	}
	return compact(e.Data), ""
}

func (s *story) sayProbe(e evidence.Event) (text, state string) {
	v := decoded[evidence.Probe](e)
	if v == nil {
		return compact(e.Data), ""
	}
	var r dialResult
	json.Unmarshal(v.Result, &r)
	return words(string(v.Purpose), string(v.Phase), v.Blocked, v.Transport, r.Addr, r.Outcome, r.Path, millis(r.MS), r.Failure, r.Err), r.Outcome
}

func sayNetwork(e evidence.Event) string {
	v := decoded[evidence.NetworkProbe](e)
	var r struct{ Targets, Records []json.RawMessage }
	if v == nil || json.Unmarshal(v.Report, &r) != nil {
		return compact(e.Data)
	}
	what := map[bool]string{true: "diagnosed:", false: "control:"}[v.Diagnosed]
	return words(what, count(len(r.Targets), "address,", "addresses,"), count(len(r.Records), "operation", "operations"))
}

func (s *story) sayJob(e evidence.Event) (text, state string) {
	v := decoded[evidence.Job](e)
	if v == nil {
		return compact(e.Data), ""
	}
	var r jobResult
	json.Unmarshal(v.Result, &r)
	state = "failed"
	if r.Status == "Succeeded" {
		state = "ok"
	}
	return words(v.Fixture, string(v.Phase), with("nonce", v.Nonce), or(r.Status, "not delivered"), r.Path, millis(r.RoundTripMS), r.Error), state
}

// compact shows a payload as it is, as far as a line goes.
func compact(data json.RawMessage) string {
	const most = 400 // characters; the trace has the rest
	return head(string(data), most)
}
