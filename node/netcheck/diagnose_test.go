package netcheck

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// seen is a report under construction.
type seen struct {
	Report
	away Control
	next int // transaction
}

// climbs are the layers of the transports.
var climbs = map[string][]Operation{
	"tcp":     {Connect, Multistream, Security, Muxer, Identify, Reserve},
	"wss":     {Connect, TLS, Upgrade, Multistream, Security, Muxer, Identify, Reserve},
	"quic-v1": {QUIC, Identify, Reserve},
}

// The one relay of these tests, by its three addresses.
var leads = map[string]string{
	"tcp": "/ip4/11.0.0.1/tcp/4001", "wss": "/ip4/11.0.0.1/tcp/443/tls/ws", "quic-v1": "/ip4/11.0.0.1/udp/4001/quic-v1",
}

func at(transport string) string {
	if transport == "wss" {
		return "11.0.0.1:443"
	}
	return "11.0.0.1:4001"
}

func newSeen() *seen {
	s := &seen{Report: Report{Version: ReportVersion, Local: Local{Addrs: []string{"192.168.1.2/24"}, Routes: []string{"ip4"}}}}
	for _, t := range []string{"tcp", "wss", "quic-v1"} {
		s.Targets = append(s.Targets, Target{Addr: leads[t], Leads: []string{leads[t]}})
	}
	return s
}

func add(to *[]Record, r Record, f Failure) *Record {
	r.ID = len(*to)
	if f != "" {
		r.Failure = &f
	}
	*to = append(*to, r)
	return &(*to)[r.ID]
}

// climb records one way up to the layer that fails.
func (s *seen) climb(to *[]Record, transport string, fails Operation, f Failure) {
	s.next++
	target := slices.Index([]string{"tcp", "wss", "quic-v1"}, transport)
	for _, op := range climbs[transport] {
		r := Record{Transaction: s.next, Target: target, Operation: op, Transport: transport, Lead: leads[transport], Addr: at(transport)}
		if op == TLS {
			r.Facts.Chain = []Cert{{Issuer: "the relay's own", SHA256: "aa"}}
		}
		if op == fails {
			add(to, r, f)
			return
		}
		add(to, r, "")
	}
}

// here is what this host saw of a way; an empty layer means that it stood.
func (s *seen) here(transport string, fails Operation, f Failure) *seen {
	s.climb(&s.Records, transport, fails, f)
	return s
}

// aside records something beside the ladder.
func (s *seen) aside(r Record, f Failure) *seen {
	s.next++
	r.Transaction = s.next
	if r.Target == 0 {
		r.Target = -1
	}
	add(&s.Records, r, f)
	return s
}

// elsewhere has another host find everything in order, but for one transport.
func (s *seen) elsewhere(but string, fails Operation, f Failure) *seen {
	for _, t := range []string{"tcp", "wss", "quic-v1"} {
		if t == but {
			s.climb(&s.away.Records, t, fails, f)
		} else {
			s.climb(&s.away.Records, t, "", "")
		}
	}
	add(&s.away.Records, Record{Target: -1, Operation: Datagram, Proto: "stun", Addr: "12.0.0.1:3478"}, "")
	add(&s.away.Records, Record{Target: -1, Operation: Resolve, Proto: "system", Facts: Facts{Question: "A example.org", Answers: []string{"12.0.0.9"}}}, "")
	add(&s.away.Records, Record{Target: -1, Operation: Resolve, Proto: "system", Facts: Facts{Question: "TXT _dnsaddr.example.org", Answers: []string{"dnsaddr=x"}}}, "")
	s.Controls = []Control{{Host: "elsewhere", Records: s.away.Records}}
	return s
}

func (s *seen) fine() *seen { return s.elsewhere("", "", "") }

func stun(f Failure) (Record, Failure) {
	return Record{Operation: Datagram, Proto: "stun", Addr: "12.0.0.1:3478"}, f
}

func version(op Operation, bytes int) Record {
	return Record{Operation: op, Proto: "quic-version", Addr: at("quic-v1"), Lead: leads["quic-v1"], Transport: "quic-v1", Facts: Facts{Bytes: bytes}}
}

func asks(question, proto string, answers ...string) Record {
	return Record{Operation: Resolve, Proto: proto, Facts: Facts{Question: question, Answers: answers}}
}

// stories are reports with what they mean, when others have tried the same.
var stories = map[string]struct {
	make func() *seen
	want []Cause
}{
	"nothing in the way": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
	}, nil},
	"no network": {func() *seen {
		s := newSeen()
		s.Local = Local{}
		return s
	}, []Cause{NoNetwork}},
	"nothing gets out": {func() *seen {
		return newSeen().here("tcp", Connect, Timeout).here("wss", Connect, Timeout).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout))
	}, []Cause{AllBlocked}},
	"a university": {func() *seen {
		return newSeen().here("tcp", Connect, Timeout).here("wss", "", "").here("quic-v1", QUIC, QUICIdleTimeout).
			aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
	}, []Cause{UDPBlocked, TCPPortsBlocked}},
	"a university that says no": {func() *seen {
		return newSeen().here("tcp", Connect, Refused).here("wss", "", "").here("quic-v1", QUIC, QUICIdleTimeout).
			aside(stun(Refused)).aside(version(Datagram, 1200), Refused)
	}, []Cause{UDPBlocked, TCPPortsBlocked}},
	"libp2p's first bytes are swallowed": {func() *seen {
		return newSeen().here("tcp", Multistream, Timeout).here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Harmless, Proto: "http", Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp"}, "")
	}, []Cause{MultistreamKilled}},
	"libp2p's first bytes are reset": {func() *seen {
		return newSeen().here("tcp", Multistream, Reset).here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
	}, []Cause{MultistreamKilled}},
	"the handshake dies": {func() *seen {
		return newSeen().here("tcp", Security, SecurityReset).here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
	}, []Cause{HandshakeKilled}},
	"QUIC alone is dropped": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", QUIC, QUICIdleTimeout).aside(stun("")).aside(version(Datagram, 1200), "")
	}, []Cause{QUICBlocked}},
	"large datagrams vanish": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", QUIC, QUICHandshakeTimeout).aside(stun("")).
			aside(version(Datagram, 1200), "").aside(version(Size, 1452), Timeout)
	}, []Cause{MTUBlackHole}},
	"large segments vanish": {func() *seen {
		return newSeen().here("tcp", Identify, Timeout).here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Size, Proto: string(Identify), Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp", Facts: Facts{Segment: 1200}}, "")
	}, []Cause{MTUBlackHole}},
	"large hellos are dropped": {func() *seen {
		hello := func(segment int) Record {
			return Record{Operation: Size, Proto: "tls", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Segment: segment, Bytes: 1700}}
		}
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).aside(hello(0), Timeout).aside(hello(1200), Timeout)
	}, []Cause{LargeHelloKilled}},
	"flows freeze": {func() *seen {
		echo := func(bytes int) Record {
			return Record{Operation: Size, Proto: "echo", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Bytes: bytes}}
		}
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).aside(echo(4096), "").aside(echo(65536), Timeout)
	}, []Cause{BytesCapped}},
	"few flows": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Flows, Proto: "tcp", Facts: Facts{Tried: 16, Stood: 8}}, Refused)
	}, []Cause{FlowsLimited}},
	"every SYN is answered": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Connect, Proto: "dead", Addr: "192.0.2.1:443"}, "")
	}, []Cause{SYNAnswered}},
	"silence kills": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Keepalive, Proto: "ping", Transport: "quic-v1", Facts: Facts{Silence: 20}}, QUICIdleTimeout)
	}, []Cause{UDPTimeout}},
	"no upgrade": {func() *seen {
		s := newSeen().here("tcp", Connect, Timeout).here("wss", Upgrade, WebSocketHandshake).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
		s.Records[3].Facts.Status = 200
		return s
	}, []Cause{UDPBlocked, TCPPortsBlocked, UpgradeStripped}},
	"somebody else's certificate": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		for i, r := range s.Records {
			if r.Operation == TLS {
				s.Records[i].Facts.Chain = []Cert{{Issuer: "Acme Web Gateway", SHA256: "bb"}}
			}
		}
		return s
	}, []Cause{TLSIntercepted}},
	"somebody else's certificate, as the relay says itself": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		for i, r := range s.Records {
			if r.Operation == Identify && r.Transport == "wss" {
				s.Records[i].Facts.Stated = new(bool)
			}
		}
		return s
	}, []Cause{TLSIntercepted}},
	"a clock that is wrong": {func() *seen {
		ahead := 86400.0
		return newSeen().here("tcp", "", "").here("wss", TLS, TLSCertificate).here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Clock, Proto: "http", Facts: Facts{Offset: &ahead}}, "")
	}, []Cause{ClockSkewed}},
	"a clock that is a little wrong": {func() *seen {
		ahead := 20.0
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Clock, Proto: "http", Facts: Facts{Offset: &ahead}}, "")
	}, nil},
	"a proxy that lets through to some ports only": {func() *seen {
		s := newSeen()
		for _, transport := range []string{"wss", "tcp"} {
			f := map[string]Failure{"tcp": ProxyForbidden}[transport]
			s.next++
			at := Record{Transaction: s.next, Operation: ProxyTunnel, Transport: transport, Lead: leads[transport], Addr: "http://proxy:3128"}
			add(&s.Records, at, f)
		}
		return s.here("tcp", Connect, Timeout).here("wss", Connect, Timeout).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
	}, []Cause{ProxyRequired, ProxyPorts, UDPBlocked}},
	"a captive portal": {func() *seen {
		return newSeen().here("tcp", Connect, Refused).here("wss", Connect, Refused).here("quic-v1", QUIC, QUICIdleTimeout).
			aside(Record{Operation: Portal, Proto: "http", Facts: Facts{Status: 302, Location: "http://10.0.0.1/login", FirstByte: "3c"}}, "")
	}, []Cause{PortalClosed}},
	"no resolver": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(asks("A example.org", "system"), Timeout).aside(asks("A example.org", "doh", "12.0.0.9"), "")
	}, []Cause{DNSBlocked}},
	"no text records": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(asks("A example.org", "system", "12.0.0.9"), "").aside(asks("TXT _dnsaddr.example.org", "system"), NXDomain)
	}, []Cause{DNSTXTBlocked}},
	"a resolver that lies": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(asks("A example.org", "system", "10.1.1.1"), "")
	}, []Cause{DNSLies}},
	"a name that does not exist": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(asks("A nowhere.example", "system"), NXDomain).aside(asks("A nowhere.example", "doh"), NXDomain)
	}, nil},
	"IPv6 that leads nowhere": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		s.Local.Routes = append(s.Local.Routes, "ip6")
		six := Record{Transaction: 99, Operation: Connect, Transport: "tcp", Lead: "/ip6/2a00::1/tcp/4001", Addr: "[2a00::1]:4001"}
		add(&s.Records, six, Timeout)
		six.Transaction = 98
		add(&s.away.Records, six, "")
		return s
	}, []Cause{IPv6Broken}},
	"plain HTTP answered by another": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		s.next++
		at := Record{Transaction: s.next, Operation: Connect, Transport: "ws", Lead: "/ip4/11.0.0.1/tcp/80/ws", Addr: "11.0.0.1:80"}
		add(&s.Records, at, "")
		at.Operation, at.Facts = Upgrade, Facts{Status: 400}
		add(&s.Records, at, WebSocketHandshake)
		at.Transaction = 98
		add(&s.away.Records, at, "")
		return s
	}, []Cause{HTTPIntercepted}},
	"an inspector that refuses relays": {func() *seen {
		return newSeen().here("tcp", Connect, Timeout).here("wss", TLS, TLSHandshake).here("quic-v1", QUIC, QUICIdleTimeout).
			aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout).
			aside(Record{Operation: Connect, Proto: "dead", Addr: "192.0.2.1:443"}, "")
	}, []Cause{UDPBlocked, TCPPortsBlocked, TLSServersRefused}},
	"IPv6 only": {func() *seen {
		s := newSeen().here("tcp", Connect, NetworkUnreachable).here("wss", Connect, NetworkUnreachable).here("quic-v1", QUIC, NetworkUnreachable).
			aside(asks("IP dns.google", "system", "64:ff9b::808:808"), "")
		s.Local.Routes = []string{"ip6"}
		return s
	}, []Cause{IPv4ByTranslation}},
	"a satellite": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		for i := range s.Records {
			s.Records[i].T = 0.62 // seconds
		}
		return s
	}, []Cause{Slow}},
	"loss": {func() *seen {
		lost, _ := stun("")
		lost.Operation, lost.Facts = Loss, Facts{Tried: 100, Stood: 91}
		return newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).aside(lost, "")
	}, []Cause{Lossy}},
	"a step that stood when it was tried again": {func() *seen {
		return newSeen().here("tcp", Connect, Timeout).here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
	}, nil},
	"names that are not permitted": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", TLS, Reset).here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Harmless, Proto: "tls", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Question: "www.example.org"}}, "")
	}, []Cause{NameKilled}},
	"TLS that no name helps": {func() *seen {
		return newSeen().here("tcp", "", "").here("wss", TLS, Reset).here("quic-v1", "", "").aside(stun("")).
			aside(Record{Operation: Harmless, Proto: "tls", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Question: "www.example.org"}}, Reset)
	}, []Cause{NoControl}},
	"libp2p's TLS is swallowed": {func() *seen {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		for i, r := range s.Records {
			if r.Operation == Security && r.Transport == "tcp" {
				s.Records[i].Proto = protoNoise
			}
		}
		return s.aside(Record{Operation: Security, Proto: protoTLS, Addr: at("tcp"), Lead: leads["tcp"], Transport: "tcp"}, SecurityTimeout)
	}, []Cause{ALPNKilled}},
	"a proxy that asks who we are, and believes us": {func() *seen {
		s := newSeen()
		s.next++
		add(&s.Records, Record{Transaction: s.next, Target: 1, Operation: ProxyTunnel, Transport: "wss", Lead: leads["wss"], Addr: "http://proxy:3128", Facts: Facts{Login: true}}, "")
		for _, op := range climbs["wss"][1:] {
			add(&s.Records, Record{Transaction: s.next, Target: 1, Operation: op, Transport: "wss", Lead: leads["wss"], Addr: at("wss")}, "")
		}
		return s.here("tcp", Connect, Timeout).here("wss", Connect, Timeout).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
	}, []Cause{ProxyAuth, UDPBlocked}},
	"a thin line": {func() *seen {
		long := Record{Operation: Size, Proto: "echo", T: 0.1, Lead: leads["wss"], Transport: "wss", Facts: Facts{Bytes: 64 << 10}}
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		add(&s.away.Records, long, "")
		long.T = 2.1
		return s.aside(long, "")
	}, []Cause{Throttled}},
}

func causesOf(d Diagnosis) (list []Cause) {
	for _, f := range d.Causes {
		list = append(list, f.Cause)
	}
	return list
}

func TestEveryStoryHasItsCause(t *testing.T) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			d := Diagnose(story.make().fine().Report)
			if got := causesOf(d); !slices.Equal(sorted(got), sorted(story.want)) {
				t.Errorf("found %v, want %v\n%s", got, story.want, marshal(d))
			}
			for _, f := range d.Causes {
				if f.Sentence == "" || strings.Contains(f.Sentence, "%!") || f.Confidence == "" {
					t.Errorf("%s: %q, %q", f.Cause, f.Sentence, f.Confidence)
				}
			}
			if d.Donor == "" || strings.Contains(d.Donor+d.Operator+d.Administrator, "%!") {
				t.Errorf("advice %q %q %q", d.Donor, d.Operator, d.Administrator)
			}
		})
	}
}

// What fails here may fail everywhere.
func TestWithoutAControlNothingIsCalledBlocked(t *testing.T) {
	for _, name := range []string{"nothing gets out", "a university", "libp2p's first bytes are swallowed", "libp2p's first bytes are reset",
		"the handshake dies", "QUIC alone is dropped"} {
		d := Diagnose(stories[name].make().Report)
		if got := causesOf(d); !slices.Equal(got, []Cause{NoControl}) {
			t.Errorf("%s: found %v without a control", name, got)
		}
	}
}

func TestWhatFailsElsewhereAsWellIsTheFarEndsFault(t *testing.T) {
	s := newSeen().here("tcp", Connect, Timeout).here("wss", "", "").here("quic-v1", "", "").aside(stun("")).elsewhere("tcp", Connect, Timeout)
	d := Diagnose(s.Report)
	if len(d.Causes) > 0 || d.Targets[0].Cause != TargetDead {
		t.Errorf("a dead address is taken for a firewall:\n%s", marshal(d))
	}
	frozen := Record{Operation: Size, Proto: "echo", Addr: at("wss"), Lead: leads["wss"], Transport: "wss", Facts: Facts{Bytes: 65536}}
	some := frozen
	some.Facts.Bytes = 4096
	s = newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).aside(some, "").aside(frozen, Timeout)
	add(&s.away.Records, frozen, Timeout)
	if d := Diagnose(s.fine().Report); len(d.Causes) > 0 {
		t.Errorf("a relay that freezes for everybody is taken for a censor:\n%s", marshal(d))
	}
	s = newSeen().here("tcp", "", "").here("wss", TLS, TLSCertificate).here("quic-v1", "", "").aside(stun("")).elsewhere("wss", TLS, TLSCertificate)
	if d := Diagnose(s.Report); len(d.Causes) > 0 || d.Targets[1].Cause != CertificateInvalid {
		t.Errorf("a bad certificate is taken for an inspector:\n%s", marshal(d))
	}
	s = newSeen().here("tcp", Reserve, ReservationRefused).here("wss", "", "").here("quic-v1", "", "").aside(stun("")).fine()
	if d := Diagnose(s.Report); len(d.Causes) > 0 || d.Targets[0].Cause != RelayRefuses {
		t.Errorf("a full relay is taken for a firewall:\n%s", marshal(d))
	}
}

func TestTheThreeHypothesesAreToldApart(t *testing.T) {
	for want, d := range map[Hypothesis]Daemon{
		H1:           {Started: true, Ended: true, Exit: 1, Lived: 5, Dials: 8},
		H2:           {Started: true, Dials: 8, Silent: 8},
		H3:           {Started: true, Dials: 8, Stalled: 8},
		NoHypothesis: {Started: true, Dials: 8, Joined: true},
	} {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).fine()
		s.Daemon = &d
		if got := Diagnose(s.Report).Hypothesis; got != want {
			t.Errorf("%+v is %q, want %q", d, got, want)
		}
	}
}

func TestEveryAddressOfTheListIsExplained(t *testing.T) {
	for name, story := range stories {
		s := story.make().fine()
		d := Diagnose(s.Report)
		for i := range s.Targets {
			if !slices.ContainsFunc(d.Targets, func(e Explanation) bool { return e.Target == i && e.Sentence != "" }) {
				t.Errorf("%s: target %d is not explained", name, i)
			}
		}
	}
}

func TestEveryCauseHasWords(t *testing.T) {
	for _, c := range Causes() {
		if causeWords[c].short == "" {
			t.Errorf("%s has no words", c)
		}
	}
	if len(causeWords) != len(Causes()) {
		t.Errorf("words for %d causes of %d", len(causeWords), len(Causes()))
	}
}

func TestADiagnosisDependsOnTheReportAlone(t *testing.T) {
	for name, story := range stories {
		a, b := marshal(Diagnose(story.make().fine().Report)), marshal(Diagnose(story.make().fine().Report))
		if a != b {
			t.Errorf("%s: %s\n%s", name, a, b)
		}
	}
}

func sorted(list []Cause) []Cause { return slices.Sorted(slices.Values(list)) }

func marshal(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}
