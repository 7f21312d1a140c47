package netcheck

import "testing"

// far has every step of the way to a relay take so long, in seconds.
func far(records []Record, seconds float64) {
	for i := range records {
		if op := records[i].Operation; op != Size && op != Datagram {
			records[i].T = seconds
		}
	}
}

func TestDistanceIsNotTakenForThrottling(t *testing.T) {
	long := Record{Operation: Size, Proto: "echo", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Bytes: 64 << 10}}
	for what, c := range map[string]struct {
		trip, took float64 // seconds
		want       Cause
	}{
		"a flow of a few long round trips":  {0.3, 2.1, ""},
		"a flow of many short round trips":  {0.04, 2.1, Throttled},
		"a flow of many long round trips":   {0.3, 6, Throttled},
		"a flow that carries what it ought": {0.04, 0.3, ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := standing()
			far(s.Records, c.trip)
			there, here := long, long
			there.T, here.T = 0.1, c.took
			add(&s.away.Records, there, "")
			only(t, Diagnose(s.aside(here, "").fine().Report), c.want)
		})
	}
}

func TestASlowRelayIsNotTakenForASlowNetwork(t *testing.T) {
	for what, c := range map[string]struct {
		here, there float64 // seconds
		addr        string  // of what others reached
		how         Confidence
	}{
		"it is near to others":            {0.6, 0.04, "", Likely},
		"it is far from everybody":        {0.6, 0.6, "", ""},
		"others looked at another relay":  {0.6, 0.6, "12.0.0.1:443", Possible},
		"others reached a nearer relay":   {0.6, 0.04, "12.0.0.1:443", Possible},
		"it is near, and far from others": {0.04, 0.6, "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := standing()
			far(s.Records, c.here)
			s.fine()
			theirs := s.Controls[0].Records
			far(theirs, c.there)
			for i := range theirs {
				if c.addr != "" {
					theirs[i].Addr = c.addr
				}
			}
			want := Slow
			if c.how == "" {
				want = ""
			}
			if f := only(t, Diagnose(s.Report), want); f.Confidence != c.how {
				t.Errorf("%s, want %q", f.Confidence, c.how)
			}
		})
	}
	s := standing()
	far(s.Records, 0.6)
	if f := only(t, Diagnose(s.Report), Slow); f.Confidence != Possible {
		t.Errorf("without a control it is %s", f.Confidence)
	}
}
