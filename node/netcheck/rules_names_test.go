package netcheck

import (
	"slices"
	"testing"
)

func TestAFilterOfOneNameIsNotOneOfTextRecords(t *testing.T) {
	const theirs, other, foreign = "TXT _dnsaddr.example.org", "TXT _dnsaddr.a.example.org", "TXT _dnsaddr.example.net"
	for name, c := range map[string]struct {
		lost, told []string // questions
		want       Confidence
	}{
		"one name is denied, another one told": {[]string{theirs}, []string{foreign}, ""},
		"the only name is denied":              {[]string{theirs}, nil, Possible},
		"all names of one domain are denied":   {[]string{theirs, other}, nil, Possible},
		"names of two domains are denied":      {[]string{theirs, other, foreign}, nil, Likely},
	} {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).
			aside(asks("A example.org", "system", "12.0.0.9"), "")
		for _, q := range c.lost {
			s.aside(asks(q, "system"), NXDomain).aside(asks(q, "doh", "dnsaddr=x"), "")
		}
		for _, q := range c.told {
			s.aside(asks(q, "system", "dnsaddr=y"), "")
		}
		d := Diagnose(s.fine().Report)
		switch i := slices.IndexFunc(d.Causes, func(f Finding) bool { return f.Cause == DNSTXTBlocked }); {
		case i < 0 && c.want == "":
		case i < 0 || d.Causes[i].Confidence != c.want:
			t.Errorf("%s: want %q\n%s", name, c.want, marshal(d.Causes))
		}
	}
}
