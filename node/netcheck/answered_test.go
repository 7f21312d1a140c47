package netcheck

import (
	"slices"
	"strings"
	"testing"
)

func TestAFarEndThatAnsweredIsNotCalledKilled(t *testing.T) {
	get := Record{Operation: Harmless, Proto: "http", Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp", Received: 300}
	for what, s := range map[string]*seen{
		"a proxy in between that speaks HTTP": dies(Multistream, Garbage).aside(get, ""),
		"a server without such a handshake":   dies(Multistream, NoProtocol),
		"somebody else":                       dies(Security, PeerMismatch),
		"a peer that has no such muxer":       dies(Muxer, NoProtocol),
		"somebody else, who speaks QUIC":      newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", QUIC, PeerMismatch).aside(stun("")).aside(version(Datagram, 1200), ""),
		"somebody else, who speaks TLS":       standing().aside(Record{Operation: Security, Proto: protoTLS, Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp"}, PeerMismatch),
		"a peer that says nothing of itself":  dies(Identify, NoProtocol),
	} {
		t.Run(what, func(t *testing.T) {
			for i, r := range s.Records { // libp2p's Noise stands where it does
				if r.Operation == Security && r.Transport == "tcp" && r.Failure == nil {
					s.Records[i].Proto = protoNoise
				}
			}
			d := Diagnose(s.fine().Report)
			if got := slices.DeleteFunc(causesOf(d), func(c Cause) bool { return c == NoControl }); len(got) > 0 {
				t.Errorf("found %v\n%s", got, marshal(d))
			}
			if d.Administrator != "" {
				t.Errorf("an administrator is asked for %q", d.Administrator)
			}
		})
	}
}

// Where a web browser's request gets no answer either, it may not be libp2p that is
// looked for.
func TestLibp2pIsNamedAsWhatIsStoppedOnlyWhereOtherBytesPass(t *testing.T) {
	const request = 104 // bytes
	get := Record{Operation: Harmless, Proto: "http", Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp", T: 2.6, Sent: request}
	answered := get
	answered.Received = 300
	for what, c := range map[string]struct {
		seen  *seen
		how   Confidence
		blame bool // libp2p
	}{
		"it is answered":                          {dies(Multistream, SecurityTimeout).aside(answered, ""), Certain, true},
		"nobody tried":                            {dies(Multistream, SecurityTimeout), Likely, true},
		"nothing comes back":                      {dies(Multistream, SecurityTimeout).aside(get, Timeout), Possible, false},
		"it is reset":                             {dies(Multistream, SecurityReset).aside(get, Reset), Possible, false},
		"it is hung up on":                        {dies(Multistream, SecurityTimeout).aside(get, ""), Possible, false},
		"nothing comes back, and it arrived":      {dies(Multistream, SecurityTimeout, saw(Aborted, 72)).aside(get, Timeout), Likely, true},
		"nothing comes back, and little arrived":  {dies(Multistream, SecurityTimeout, saw(Timeout, hello)).aside(get, Timeout), Possible, false},
		"nothing comes back, and others' arrived": {dies(Multistream, SecurityTimeout, saw(Aborted, request+1)).aside(get, Timeout), Possible, false},
		"nothing comes back, and another arrived later": {dies(Multistream, SecurityTimeout, but(saw(Aborted, 72), func(a *Arrival) { a.T0 = 9 })).aside(get, Timeout),
			Possible, false},
		"it is answered at another address alone": {func() *seen {
			other := answered
			other.Addr = at("wss")
			return dies(Multistream, SecurityTimeout).aside(other, "")
		}(), Likely, true},
	} {
		t.Run(what, func(t *testing.T) {
			d := Diagnose(c.seen.fine().Report)
			if f := only(t, d, MultistreamKilled); f.Confidence != c.how {
				t.Errorf("%s, want %s: %s", f.Confidence, c.how, f.Sentence)
			}
			if strings.Contains(d.Administrator, "attack") != c.blame || d.Administrator == "" {
				t.Errorf("%q", d.Administrator)
			}
		})
	}
}
