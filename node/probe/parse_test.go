package probe

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/worldcompute/wce2e/node/netcheck"
)

var probeID = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// negotiation is a server's answer to a probe with probeID.
func negotiation() []byte {
	b := []byte{0x80, 0, 0, 0, 0, 8}
	b = append(b, probeID...)
	b = append(b, 8)
	b = append(b, probeID...)
	return append(b, 0, 0, 0, 1)
}

func TestOnlyAnAnswerToTheProbeIsAVersionNegotiation(t *testing.T) {
	other := bytes.Clone(negotiation())
	other[6] = 9
	version1 := bytes.Clone(negotiation())
	version1[4] = 1
	for what, c := range map[string]struct {
		in   []byte
		want bool
	}{
		"the answer":              {negotiation(), true},
		"to another probe":        {other, false},
		"a packet of version 1":   {version1, false},
		"no versions in it":       {negotiation()[:24], false},
		"the probe itself":        {versionProbe(probeID, leastInitial), false},
		"an answer to STUN":       {[]byte{1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, false},
		"nothing":                 {nil, false},
		"a header without a body": {[]byte{0x80, 0, 0, 0, 0, 255}, false},
	} {
		if got := isNegotiation(c.in, probeID); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
	if n := len(versionProbe(probeID, fullDatagram)); n != fullDatagram {
		t.Errorf("a probe of %d bytes has %d", fullDatagram, n)
	}
}

func FuzzNegotiation(f *testing.F) {
	f.Add(negotiation())
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		if isNegotiation(in, probeID) && !bytes.Contains(in, probeID) {
			t.Errorf("%x is taken for an answer", in)
		}
	})
}

func TestWhatOpensLikeLibp2pIsToldFromWhatDoesNot(t *testing.T) {
	for came, want := range map[string]bool{
		"": true,
		"132f6d756c746973747265616d2f312e302e300a072f6e6f6973650a": true, // whole
		"132f6d756c": true,  // cut short
		"5353482d":   false, // SSH
		"485454502f": false, // HTTP
		"130000":     false,
	} {
		if got := opensMultistream(came); got != want {
			t.Errorf("%q: %v", came, got)
		}
	}
}

func TestErrorsAreScrubbed(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	got := scrub("dial http://user:secret@proxy.example:3128/: open /home/somebody/.proxy: denied\n\x1b[31m\xff")
	for _, secret := range []string{"user", "secret", "somebody", "\n", "\x1b"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q has %q in it", got, secret)
		}
	}
	if !strings.Contains(got, "http://proxy.example:3128/") || !strings.Contains(got, "~/.proxy") {
		t.Errorf("%q tells too little", got)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("http://a:b@c/")
	f.Add(strings.Repeat("ä", maxError))
	f.Fuzz(func(t *testing.T, text string) {
		if got := scrub(text); !utf8.ValidString(got) || len(got) > maxError || strings.ContainsAny(got, "\n\r\x00") {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}

func TestRecordsAreInTheOrderInWhichTheyBegan(t *testing.T) {
	r := &recorder{}
	first, second := r.transaction(netcheck.Record{}), r.transaction(netcheck.Record{Target: 1})
	_ = first.step(t.Context(), netcheck.Connect, time.Minute, func(ctx context.Context, _ *netcheck.Record) error {
		return second.step(ctx, netcheck.QUIC, time.Minute, func(context.Context, *netcheck.Record) error { return nil })
	})
	all := r.all()
	if len(all) != 2 || all[0].Operation != netcheck.Connect || all[1].Operation != netcheck.QUIC || all[1].ID != 1 {
		t.Errorf("%+v", all)
	}
	if all[0].Transaction == all[1].Transaction || all[1].Target != 1 {
		t.Errorf("what is common to a transaction is lost: %+v", all)
	}
}
