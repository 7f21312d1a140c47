package netcheck

import (
	"slices"
	"strings"
	"testing"
)

// mapped are where servers saw one socket, one after another.
func (s *seen) mapped(at ...string) *seen {
	s.next++
	for i, observed := range at {
		r := Record{Transaction: s.next, Target: -1, Operation: Mapping, Proto: "stun", Addr: []string{"12.0.0.1:3478", "13.0.0.1:3478"}[i]}
		var f Failure
		if r.Facts.Observed = observed; observed == "" {
			f = Timeout
		}
		add(&s.Records, r, f)
	}
	return s
}

func (s *seen) hairpin(f Failure) *seen {
	return s.aside(Record{Operation: Hairpin, Proto: "udp", Addr: "2.0.0.1:50001"}, f)
}

// silence is of a connection that lasted; so many bytes came.
func silence(transport string, arrived int64) Record {
	return Record{Operation: Keepalive, Proto: "ping", Transport: transport, Lead: leads[transport], Facts: Facts{Silence: 20, Arrived: arrived}}
}

func standing() *seen {
	return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
}

func TestTheNATIsToldByWhatTwoServersSeeAndWhatComesBack(t *testing.T) {
	for what, c := range map[string]struct {
		seen *seen
		want []Cause
	}{
		"one mapping for all, and neighbours reach each other": {standing().mapped("2.0.0.1:50000", "2.0.0.1:50000").mapped("2.0.0.1:50001").hairpin(""), nil},
		"another port for everybody":                           {standing().mapped("2.0.0.1:50000", "2.0.0.1:50007"), []Cause{NATPerDestination}},
		"another address for everybody":                        {standing().mapped("2.0.0.1:50000", "2.0.0.2:50000"), []Cause{NATPerDestination}},
		"neighbours do not reach each other":                   {standing().mapped("2.0.0.1:50000", "2.0.0.1:50000").mapped("2.0.0.1:50001").hairpin(Timeout), []Cause{NATNoHairpin}},
		"two sockets have two ports":                           {standing().mapped("2.0.0.1:50000").mapped("2.0.0.1:50001"), nil},
		"the second server does not answer":                    {standing().mapped("2.0.0.1:50000", ""), nil},
		"nobody knows whether the mapping is one for all":      {standing().mapped("2.0.0.1:50000", "").hairpin(Timeout), nil},
		"this machine did not let the neighbour be tried":      {standing().mapped("2.0.0.1:50000", "2.0.0.1:50000").hairpin(PermissionDenied), nil},
		"the same port for everybody, by chance":               {standing().mapped("2.0.0.1:50001", "2.0.0.1:50001").mapped("2.0.0.1:50000", "2.0.0.1:50007"), []Cause{NATPerDestination}},
		"another port for everybody, and no neighbour either":  {standing().mapped("2.0.0.1:50000", "2.0.0.1:50007").hairpin(Timeout), []Cause{NATPerDestination}},
	} {
		t.Run(what, func(t *testing.T) {
			d := Diagnose(c.seen.fine().Report)
			if got := causesOf(d); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v\n%s", got, c.want, marshal(d))
			}
			if d.Administrator != "" {
				t.Errorf("an administrator is asked for %q", d.Administrator)
			}
			for _, f := range d.Causes {
				if len(f.Because) < 2 || strings.Contains(f.Sentence, "%!") || !strings.Contains(f.Sentence, "2.0.0.1:50000") {
					t.Errorf("%v: %s", f.Because, f.Sentence)
				}
			}
		})
	}
}

func TestWhatAMappingDependsOnIsSaid(t *testing.T) {
	for other, want := range map[string]string{"2.0.0.1:50007": "another port", "2.0.0.2:50000": "another address"} {
		d := Diagnose(standing().mapped("2.0.0.1:50000", other).fine().Report)
		if len(d.Causes) != 1 || d.Causes[0].Confidence != Certain || !strings.Contains(d.Causes[0].Sentence, want) {
			t.Errorf("%s: %s", other, marshal(d.Causes))
		}
	}
}

// QUIC outlives that a NAT forgets it. What the relay said meanwhile does not come.
func TestAForgottenUDPFlowIsToldByWhatOthersHear(t *testing.T) {
	for what, c := range map[string]struct {
		here  []Record
		there []Record
		want  []Cause
	}{
		"others hear, and we do not":    {[]Record{silence("quic-v1", 0)}, []Record{silence("quic-v1", 30)}, []Cause{UDPTimeout}},
		"all hear":                      {[]Record{silence("quic-v1", 30)}, []Record{silence("quic-v1", 30)}, nil},
		"nobody hears":                  {[]Record{silence("quic-v1", 0)}, []Record{silence("quic-v1", 0)}, nil},
		"nobody else has listened":      {[]Record{silence("quic-v1", 0)}, nil, nil},
		"others hear over TCP":          {[]Record{silence("quic-v1", 0)}, []Record{silence("tcp", 30)}, nil},
		"it is TCP that is not heard":   {[]Record{silence("tcp", 0)}, []Record{silence("tcp", 30)}, nil},
		"WebTransport speaks by itself": {[]Record{silence("quic-v1", 0), silence("webtransport", 30)}, []Record{silence("quic-v1", 30), silence("webtransport", 30)}, []Cause{UDPTimeout}},
		"one of our flows hears":        {[]Record{silence("quic-v1", 0), silence("quic-v1", 30)}, []Record{silence("quic-v1", 30)}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			s := standing()
			for _, r := range c.here {
				s.aside(r, "")
			}
			for _, r := range c.there {
				add(&s.away.Records, r, "")
			}
			if got := causesOf(Diagnose(s.fine().Report)); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}
