package netcheck

import (
	"testing"
)

// only is the one finding there is, if it is of a cause; empty: there is none at all.
func only(t *testing.T, d Diagnosis, c Cause) (f Finding) {
	t.Helper()
	if len(d.Causes) > 1 || len(d.Causes) == 1 && d.Causes[0].Cause != c || len(d.Causes) == 0 && c != "" {
		t.Fatalf("found %v, want %v\n%s", causesOf(d), c, marshal(d))
	}
	if len(d.Causes) == 1 {
		f = d.Causes[0]
	}
	return f
}

// A control that looked at another relay shows less than one that looked at the same.
func TestAnotherRelaySaysLessThanTheSameOne(t *testing.T) {
	large := Record{Operation: Size, Proto: "tls", Transport: "wss", Addr: at("wss"), Lead: leads["wss"], Facts: Facts{Bytes: 1700}}
	echo := Record{Operation: Size, Proto: "echo", Transport: "wss", Addr: at("wss"), Lead: leads["wss"], Facts: Facts{Bytes: 65536}, T: 4}
	stranger := Record{Operation: Harmless, Proto: "tls", Transport: "wss", Addr: at("wss"), Lead: leads["wss"], Facts: Facts{Question: "unknown.example"}}
	still := Record{Operation: Keepalive, Proto: "ping", Transport: "wss", Addr: at("wss"), Lead: leads["wss"], Facts: Facts{Silence: 45}}
	deaf := Record{Operation: Keepalive, Proto: "ping", Transport: "quic-v1", Addr: at("quic-v1"), Lead: leads["quic-v1"], Facts: Facts{Silence: 20}}
	flows := Record{Operation: Flows, Proto: "tcp", Transport: "wss", Addr: at("wss"), Lead: leads["wss"], Facts: Facts{Tried: 16, Stood: 8}}
	few, small, alpn := echo, large, Record{Operation: Security, Proto: protoTLS, Transport: "tcp", Addr: at("tcp"), Lead: leads["tcp"]}
	few.Facts.Bytes, small.Facts.Segment = 4096, 1200
	passed := func(r Record) Record { r.Failure = nil; return r }
	failed := func(r Record, f Failure) Record { r.Failure = &f; return r }
	with := func(r Record, arrived int64, seconds float64) Record {
		r.Facts.Arrived, r.T = arrived, seconds
		return r
	}
	for what, c := range map[string]struct {
		here        []Record
		fine        Record // what others see of it, if all is well there
		bad         Record // if it is not
		cause       Cause
		same, other Confidence // by a control of the same address, and of another one; empty: nothing is found
	}{
		"a name that is not permitted":        {[]Record{failed(stranger, Reset)}, passed(stranger), failed(stranger, Reset), NameKilled, Certain, ""},
		"a server that knows no such name":    {[]Record{failed(stranger, TLSHandshake)}, passed(stranger), failed(stranger, TLSHandshake), NameKilled, "", ""},
		"a flow that is reset":                {[]Record{failed(still, StreamReset)}, passed(still), failed(still, StreamReset), TCPTimeout, Certain, Likely},
		"a flow that is forgotten":            {[]Record{failed(still, Timeout)}, passed(still), failed(still, Timeout), TCPTimeout, Certain, Likely},
		"a flow that the other end has ended": {[]Record{failed(still, EOF)}, passed(still), failed(still, EOF), TCPTimeout, "", ""},
		"a flow on which nothing comes":       {[]Record{deaf}, with(deaf, 30, 0), deaf, UDPTimeout, Likely, Possible},
		"few flows at once":                   {[]Record{failed(flows, Refused)}, passed(flows), failed(flows, Refused), FlowsLimited, Certain, Likely},
		"a flow that freezes":                 {[]Record{few, failed(echo, Timeout)}, echo, failed(echo, Timeout), BytesCapped, Certain, Likely},
		"full-size packets that vanish":       {[]Record{small, failed(large, Timeout)}, passed(large), failed(large, Timeout), MTUBlackHole, Certain, Likely},
		"TLS that names libp2p":               {[]Record{failed(alpn, SecurityReset)}, passed(alpn), failed(alpn, SecurityReset), ALPNKilled, Certain, Likely},
		"a thin line":                         {[]Record{echo}, with(echo, 0, 0.1), echo, Throttled, Likely, Possible},
	} {
		elsewhere := func(r Record) Record { r.Addr, r.Lead = "12.0.0.1:443", "/ip4/12.0.0.1/tcp/443/tls/ws"; return r }
		for control, k := range map[string]struct {
			there []Record
			how   Confidence
		}{
			"the same relay is fine":                         {[]Record{c.fine}, c.same},
			"another relay is fine":                          {[]Record{elsewhere(c.fine)}, c.other},
			"the same relay is not, and another one is":      {[]Record{elsewhere(c.fine), c.bad}, ""},
			"the same relay is not fine elsewhere either":    {[]Record{c.bad}, ""},
			"the same relay is, for one of two who tried":    {[]Record{c.bad, c.fine}, c.same},
			"the same relay is, and another one is not fine": {[]Record{elsewhere(c.bad), c.fine}, c.same},
		} {
			t.Run(what+": "+control, func(t *testing.T) {
				s := standing()
				for i, r := range s.Records { // libp2p's Noise stands
					if r.Operation == Security && r.Transport == "tcp" {
						s.Records[i].Proto = protoNoise
					}
				}
				for _, r := range c.here {
					s.aside(r, "")
				}
				for _, r := range k.there {
					add(&s.away.Records, r, "")
				}
				want := c.cause
				if k.how == "" {
					want = ""
				}
				if f := only(t, Diagnose(s.fine().Report), want); f.Confidence != k.how {
					t.Errorf("%s, want %q: %s", f.Confidence, k.how, f.Sentence)
				}
			})
		}
	}
}
