package netcheck

import (
	"slices"
	"strings"
	"testing"
)

// hello is what a host had sent by TCP when it got no further, in bytes.
const hello = 28

// dies is a relay's TCP address at which a way dies, behind a network that lets all
// else through, with what the relay says of it.
func dies(at Operation, f Failure, says ...Arrival) *seen {
	s := newSeen().here("tcp", at, f)
	s.Records[len(s.Records)-1].Sent = hello
	s.Arrivals = says
	return s.here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
}

// saw is what a relay says of the connection.
func saw(f Failure, received int64) Arrival {
	return Arrival{Host: "relay1", Local: at("tcp"), Remote: "91.0.0.1:5000", Within: 1, T: 1, Received: received, Sent: 20, Failure: f}
}

func but(a Arrival, change func(*Arrival)) Arrival {
	change(&a)
	return a
}

func TestTheRelaysWordTellsWhoEndedAConnection(t *testing.T) {
	for name, c := range map[string]struct {
		seen  *seen
		cause Cause
		how   Confidence
		says  string // in the sentence; empty: nothing of the relay
	}{
		"nobody asked a relay": {dies(Multistream, SecurityReset), MultistreamKilled, Likely, ""},
		"a reset for both": {dies(Multistream, SecurityReset, saw(Reset, 0)), MultistreamKilled, Certain,
			"The relay received 0 bytes and then a reset. Neither end closed the connection: something in between did."},
		"a reset for one, an end for the other": {dies(Multistream, SecurityReset, saw(EOF, hello)), MultistreamKilled, Certain,
			"The relay received 28 bytes and then an end. Neither end closed"},
		"a reset for us alone": {dies(Multistream, SecurityReset, saw(Timeout, hello)), MultistreamKilled, Certain,
			"The relay received 28 bytes and waited in vain for more. Neither end closed"},
		"all that follows is swallowed": {dies(Multistream, SecurityTimeout, saw(Timeout, 0)), MultistreamKilled, Likely,
			"The relay saw the connection, and nothing of what followed on it."},
		"answers are swallowed": {dies(Multistream, SecurityTimeout, saw(EOF, hello)), MultistreamKilled, Likely,
			"The relay received 28 bytes and answered with 20, of which none came back."},
		"a reset in the handshake": {dies(Security, SecurityReset, saw(Reset, hello)), HandshakeKilled, Certain, "Neither end closed"},

		"a relay without room":              {dies(Multistream, SecurityReset, saw(ResourceLimit, 0)), RelayRefuses, Certain, "no room"},
		"a relay without room, by an end":   {dies(Multistream, SecurityEOF, saw(ResourceLimit, 0)), RelayRefuses, Certain, "no room"},
		"a relay that hangs up by itself":   {dies(Multistream, SecurityReset, saw(Aborted, hello)), RelayRefuses, Likely, "itself closed"},
		"a relay that got something else":   {dies(Multistream, SecurityReset, saw(Aborted, 3)), MultistreamKilled, Likely, "The relay itself closed the connection, after 3 bytes."},
		"a relay whose hanging up vanishes": {dies(Multistream, SecurityTimeout, saw(Aborted, hello)), MultistreamKilled, Likely, "The relay itself closed"},

		"of another port":    {dies(Multistream, SecurityReset, but(saw(Reset, 0), func(a *Arrival) { a.Local = "11.0.0.1:4002" })), MultistreamKilled, Likely, ""},
		"of another time":    {dies(Multistream, SecurityReset, but(saw(Reset, 0), func(a *Arrival) { a.T0 = 3 })), MultistreamKilled, Likely, ""},
		"of somebody else's": {dies(Multistream, SecurityReset, saw(Reset, hello+1)), MultistreamKilled, Likely, ""},
		"the nearest counts": {dies(Multistream, SecurityReset, but(saw(Reset, 0), func(a *Arrival) { a.T0 = 0.9 }), but(saw(ResourceLimit, 0), func(a *Arrival) { a.T0 = -0.1 })),
			RelayRefuses, Certain, "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Diagnose(c.seen.fine().Report)
			if len(d.Causes) != 1 || d.Causes[0].Cause != c.cause || d.Causes[0].Confidence != c.how {
				t.Fatalf("want %s, %s:\n%s", c.cause, c.how, marshal(d))
			}
			says := d.Causes[0].Sentence
			if !strings.Contains(says, c.says) || c.says == "" && strings.Contains(says, "relay") {
				t.Errorf("want %q: %s", c.says, says)
			}
			if d.Targets[0].Cause != c.cause {
				t.Errorf("of the address it says %s", d.Targets[0].Cause)
			}
		})
	}
}

// Behind a NAT of its own, a relay does not know where others reach it.
func TestARelayBehindANATIsKnownByItsPort(t *testing.T) {
	private := but(saw(Reset, 0), func(a *Arrival) { a.Local, a.Peer = "10.0.0.5:4001", "12D3relay" })
	for suffix, how := range map[string]Confidence{"/p2p/12D3relay": Certain, "/p2p/12D3other": Likely} {
		s := dies(Multistream, SecurityReset, private).fine()
		for _, list := range [][]Record{s.Records, s.Controls[0].Records} {
			for i := range list {
				list[i].Lead += suffix
			}
		}
		if d := Diagnose(s.Report); len(d.Causes) != 1 || d.Causes[0].Confidence != how {
			t.Errorf("%s: want %s\n%s", suffix, how, marshal(d))
		}
	}
}

// That a relay has no room is its own word: nobody else has to have tried.
func TestARelayWithoutRoomNeedsNoControl(t *testing.T) {
	d := Diagnose(dies(Multistream, SecurityReset, saw(ResourceLimit, 0)).Report)
	if got := causesOf(d); !slices.Equal(got, []Cause{RelayRefuses}) {
		t.Errorf("found %v", got)
	}
	if d := Diagnose(dies(Multistream, SecurityReset, saw(Reset, 0)).Report); !slices.Equal(causesOf(d), []Cause{NoControl}) {
		t.Errorf("a reset in between is explained without a control: %v", causesOf(d))
	}
}

// An inspector shows the relay a hello of its own, and hangs up when it does not
// like the answer: that the relay then closes says nothing.
func TestARelayThatClosesAStrangersHelloRefusesNobody(t *testing.T) {
	s := newSeen().here("tcp", "", "").here("wss", TLS, Reset)
	s.Records[len(s.Records)-1].Sent = hello
	s.Arrivals = []Arrival{but(saw(Aborted, hello), func(a *Arrival) { a.Local = at("wss") })}
	d := Diagnose(s.here("quic-v1", "", "").aside(stun("")).fine().Report)
	if slices.Contains(causesOf(d), RelayRefuses) {
		t.Errorf("found %v", causesOf(d))
	}
}

// What an administrator is told has the relay's word in it, and no host's name.
func TestTheLetterHasTheRelaysWord(t *testing.T) {
	text := Diagnose(dies(Multistream, SecurityReset, saw(Reset, 0)).fine().Report).Administrator
	if !strings.Contains(text, "something in between did") || strings.Contains(text, "relay1") {
		t.Errorf("%q", text)
	}
}
