package inventory

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// onCampus is an inventory whose second network has what is put into line 12.
const onCampus = `version: 1
name: small
hosts:
  a: {ssh: a, role: donor}
  b: {ssh: b, role: submitter}
relays: [/dnsaddr/bootstrap.mesh.wce2e.net]
lab:
  networks:
    house: {profile: home}
    campus:
      profile: home
      link: LINK
  hosts: {a: campus, b: house}
`

func TestALinkIsReadAndWrittenAsItStands(t *testing.T) {
	for text, want := range map[string]Link{
		"{delay: 50ms, jitter: 5ms, loss: 1%, rate: 10mbit, reorder: 0.5%, mtu: 1400}": {50 * time.Millisecond, 5 * time.Millisecond, 1, 10_000_000, 0.5, 1400},
		"{loss: 0.07%, rate: 512kbit}": {Loss: 0.07, Rate: 512_000},
		"{rate: 1.5gbit}":              {Rate: 1_500_000_000},
		"{rate: 9601bit}":              {Rate: 9601},
		"{loss: 100%}":                 {Loss: 100},
		"{}":                           {},
	} {
		inv, err := Parse("f", []byte(strings.Replace(onCampus, "LINK", text, 1)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := inv.Lab.Networks[1].Link; got != want {
			t.Errorf("%s is read as %+v", text, got)
		}
		if got := inv.Lab.Networks[0].Link; got != (Link{}) {
			t.Errorf("a network without a link has %+v", got)
		}
		again, err := Parse("f", inv.Scrub())
		if err != nil {
			t.Errorf("%s, scrubbed: %v\n%s", text, err, inv.Scrub())
			continue
		}
		if !reflect.DeepEqual(comparable(again), comparable(inv)) {
			t.Errorf("%s is another link after it was scrubbed:\n%s", text, inv.Scrub())
		}
	}
}

func TestWhatIsWrongWithALinkIsSaidAtItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"fast":            "f:12: lab.networks.campus.link: want fields (`name: value`), got the text \"fast\"",
		"{delya: 5ms}":    "f:12: lab.networks.campus.link.delya: unknown field",
		"{delay: 50}":     `f:12: lab.networks.campus.link.delay: "50" is not a duration`,
		"{delay: 0s}":     "f:12: lab.networks.campus.link.delay: 0s is not above 0s and at most 5s",
		"{jitter: 1m}":    "f:12: lab.networks.campus.link.jitter: 1m0s is not above 0s and at most 5s",
		"{loss: 0.01}":    `f:12: lab.networks.campus.link.loss: want a share, got the number "0.01"`,
		"{loss: 101%}":    "f:12: lab.networks.campus.link.loss: 101% is not from 0% to 100%",
		"{reorder: -1%}":  `f:12: lab.networks.campus.link.reorder: want a share, got the text "-1%"`,
		"{rate: 512}":     `f:12: lab.networks.campus.link.rate: want a rate, got the number "512"`,
		"{rate: 10 Mbps}": `f:12: lab.networks.campus.link.rate: want a rate, got the text "10 Mbps"`,
		"{rate: [1mbit]}": "f:12: lab.networks.campus.link.rate: want a rate, got a list",
		"{rate: 1kbit}":   "f:12: lab.networks.campus.link.rate: 1kbit is not from 8kbit to 100gbit",
		"{rate: 200gbit}": "f:12: lab.networks.campus.link.rate: 200gbit is not from 8kbit to 100gbit",
		"{mtu: 576}":      "f:12: lab.networks.campus.link.mtu: 576 is not from 1280 to 1500",
		"{mtu: 9000}":     "f:12: lab.networks.campus.link.mtu: 9000 is not from 1280 to 1500",
	} {
		_, err := Parse("f", []byte(strings.Replace(onCampus, "LINK", text, 1)))
		if err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}
