package netcheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recordedCauses are what is in the way behind the profiles of the lab of which
// there are reports, beside what is there everywhere: no NAT there turns anything
// around.
var recordedCauses = map[string][]Cause{
	"blocked":               {AllBlocked},
	"captive-portal":        {PortalClosed},
	"dartmouth":             {UDPBlocked, MultistreamKilled},
	"dns-hijack":            {DNSLies},
	"dns-no-txt":            {DNSTXTBlocked},
	"doh-only":              {DNSBlocked},
	"dpi-libp2p-alpn":       {ALPNKilled},
	"dpi-multistream-rst":   {MultistreamKilled},
	"far":                   {Slow},
	"home":                  nil,
	"home-patient":          nil,
	"institutional":         {UDPBlocked, TCPPortsBlocked},
	"institutional-builtin": {UDPBlocked, NoControl}, // nobody else has tried these addresses
	"institutional-reject":  {UDPBlocked, TCPPortsBlocked},
	"ipv6-broken":           {IPv6Broken},
	"open":                  nil,
	"pmtu-blackhole":        {MTUBlackHole},
	"port-allow-list":       {UDPBlocked, TCPPortsBlocked},
	"proxy-443":             {ProxyRequired, ProxyPorts, DNSInternalOnly, UDPBlocked},
	"proxy-auth":            {ProxyAuth, DNSInternalOnly, UDPBlocked},
	"proxy-no-upgrade":      {UDPBlocked, TCPPortsBlocked, TLSIntercepted, UpgradeStripped},
	"proxy-socks":           {ProxyRequired, DNSInternalOnly, UDPBlocked},
	"proxy-wpad":            {ProxyRequired, DNSInternalOnly, UDPBlocked},
	"quic-blocked":          {QUICBlocked},
	"syn-proxy":             {SYNAnswered},
	"tcp-idle-30s-patient":  {TCPTimeout},
	"tls-intercept":         {UDPBlocked, TCPPortsBlocked, TLSIntercepted},
	"udp-443-blocked":       {UDPPortBlocked},
	"udp-blocked":           {UDPBlocked},
	"udp-idle-15s-patient":  nil, // relays speak just in time
}

func recorded(t *testing.T, profile string) Report {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "reports", profile+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordedReportsHaveTheirCauses(t *testing.T) {
	files, err := filepath.Glob("testdata/reports/*.json")
	if err != nil || len(files) != len(recordedCauses) {
		t.Errorf("%d reports, %d expectations: %v", len(files), len(recordedCauses), err)
	}
	open := recorded(t, "open")
	for name, want := range recordedCauses {
		r := recorded(t, name)
		if !strings.HasSuffix(name, "-patient") { // its control would be another patient one
			r.Controls = append(r.Controls, Control{Host: "open", Records: open.Records})
		}
		d := Diagnose(r)
		got := slices.DeleteFunc(causesOf(d), func(c Cause) bool { return c == NATNoHairpin })
		if !slices.Equal(sorted(got), sorted(want)) {
			t.Errorf("%s: found %v, want %v", name, got, want)
			for _, c := range d.Causes {
				t.Logf("%s %s %v", c.Cause, c.Sentence, c.Because)
			}
			for _, e := range d.Targets {
				if e.Cause == NoControl {
					t.Logf("unexplained: %s %s", e.Addr, e.Sentence)
				}
			}
		}
	}
}
