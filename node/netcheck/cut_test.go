package netcheck

import (
	"slices"
	"testing"
)

// What we gave up has not failed, and what had stood until then has stood.
func TestOfALookThatWasCutShortOnlyWhatHadEndedCounts(t *testing.T) {
	still := Record{Operation: Keepalive, Proto: "ping", Transport: "tcp", Addr: at("tcp"), Lead: leads["tcp"], Facts: Facts{Silence: 45}}
	tls := Record{Operation: Harmless, Proto: "tls", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Question: "www.example.org"}}
	for what, c := range map[string]struct {
		here  *seen
		there []Record
		want  []Cause
	}{
		"a silence":         {standing().aside(still, Aborted), []Record{still}, nil},
		"a silence of many": {standing().aside(still, Aborted).aside(still, Timeout), []Record{still}, []Cause{TCPTimeout}},
		"a dial":            {newSeen().here("tcp", Security, Aborted).here("wss", "", "").here("quic-v1", "", "").aside(stun("")), nil, nil},
		"a dial's TCP connection had stood": {newSeen().here("tcp", Connect, Timeout).here("wss", TLS, Aborted).here("quic-v1", "", "").aside(stun("")), nil,
			[]Cause{TCPPortsBlocked}},
		"a dial that was TLS without a name": {newSeen().here("tcp", "", "").here("wss", TLS, Aborted).here("quic-v1", "", "").aside(stun("")).aside(tls, ""), nil, nil},
	} {
		t.Run(what, func(t *testing.T) {
			for _, r := range c.there {
				add(&c.here.away.Records, r, "")
			}
			if got := causesOf(Diagnose(c.here.fine().Report)); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}

func TestAnAddressWhoseOnlyTryWasCutOffIsNotKnown(t *testing.T) {
	d := Diagnose(newSeen().here("tcp", Connect, Aborted).fine().Report)
	if len(d.Targets) == 0 || d.Targets[0].Cause != NoControl || d.Targets[0].Sentence != "The look ended before it was known." {
		t.Errorf("%+v", d.Targets)
	}
}

func TestAControlThatWasCutShortHasNotFailed(t *testing.T) {
	s := newSeen().here("tcp", Connect, Timeout).here("wss", "", "").here("quic-v1", "", "").aside(stun("")).elsewhere("tcp", Connect, Aborted)
	if got := causesOf(Diagnose(s.Report)); !slices.Equal(got, []Cause{NoControl}) {
		t.Errorf("found %v: nobody else knows whether the address is dead", got)
	}
}
