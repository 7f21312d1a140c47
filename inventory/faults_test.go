package inventory

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// simulated is an inventory whose hosts are a lab's.
const simulated = `version: 1
name: small
hosts:
  a: {ssh: laba, role: donor}
  b: {ssh: labb, role: submitter}
  r: {ssh: labr, role: relay}
run: {hold: 1m, observe: 30s}
lab: {networks: {n: {profile: home}, m: {profile: home}}, hosts: {laba: n, labb: m, labr: m}}
faults:
`

func TestEveryFaultIsReadWithItsFields(t *testing.T) {
	inv, err := Parse("f", []byte(simulated+`
  - {after: 1s, do: kill, host: held-relay}
  - {after: 2s, do: stop, host: b}
  - {after: 3s, do: restart, host: r}
  - {after: 4s, do: unplug, host: a, for: 5s}
  - {after: 5s, do: unplug, host: b}
  - {after: 6s, do: roam, host: a, to: m}
  - {after: 7s, do: reboot-router, network: n}
  - {after: 8s, do: readdress, network: m}
  - {after: 9s, do: set-profile, network: n, profile: symmetric + udp-blocked}
  - {during: join, after: 10s, do: login, host: a}
  - {during: hold, after: 11s, do: roam, host: a, to: n}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Fault{
		{During: Join, After: 10 * time.Second, Do: Login, Host: "a"}, // joining comes first
		{After: 1 * time.Second, Do: Kill, Host: HeldRelay},
		{After: 2 * time.Second, Do: Stop, Host: "b"},
		{After: 3 * time.Second, Do: Restart, Host: "r"},
		{After: 4 * time.Second, Do: Unplug, Host: "a", For: 5 * time.Second},
		{After: 5 * time.Second, Do: Unplug, Host: "b"},
		{After: 6 * time.Second, Do: Roam, Host: "a", To: "m"},
		{After: 7 * time.Second, Do: RebootRouter, Network: "n"},
		{After: 8 * time.Second, Do: Readdress, Network: "m"},
		{After: 9 * time.Second, Do: SetProfile, Network: "n", Profile: "symmetric + udp-blocked"},
		{After: 11 * time.Second, Do: Roam, Host: "a", To: "n"},
	}
	if got := comparable(inv).Faults; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	again, err := Parse("f", inv.Scrub())
	if err != nil || !reflect.DeepEqual(comparable(again), comparable(inv)) {
		t.Errorf("scrubbed it is another one (%v):\n%s", err, inv.Scrub())
	}
}

func TestWhatIsWrongWithAFaultIsSaidWithAHint(t *testing.T) {
	const atFirst = "f:10: faults[0]"
	for name, c := range map[string]struct{ fault, want string }{
		"a slip of the finger":        {"{after: 1s, do: restrat, host: r}", atFirst + `.do: unknown fault "restrat"` + "\nhint: did you mean restart?"},
		"another step":                {"{during: teardown, after: 1s, do: kill, host: r}", atFirst + `.during: "teardown" is no step at which something can be broken` + "\nhint: known here: join, hold"},
		"a field of another fault":    {"{after: 1s, do: unplug, host: a, to: m}", atFirst + ".to: of no use to unplug\nhint: unplug takes host, for"},
		"no host":                     {"{after: 1s, do: restart}", atFirst + ".host: missing"},
		"no network":                  {"{after: 1s, do: reboot-router}", atFirst + ".network: missing"},
		"an unknown network":          {"{after: 1s, do: readdress, network: nn}", atFirst + `.network: unknown network "nn"` + "\nhint: did you mean n?"},
		"nowhere to go":               {"{after: 1s, do: roam, host: a}", atFirst + ".to: missing"},
		"where it is already":         {"{after: 1s, do: roam, host: a, to: n}", "f:10: faults.to: a is on the network n already"},
		"a relay on its way":          {"{after: 1s, do: roam, host: r, to: n}", atFirst + ".host: a relay stays where it is known to be"},
		"no profile":                  {"{after: 1s, do: set-profile, network: n}", atFirst + ".profile: missing"},
		"half a profile":              {"{after: 1s, do: set-profile, network: n, profile: home +}", atFirst + `.profile: "" is not a name`},
		"longer than the hold":        {"{after: 50s, do: unplug, host: a, for: 10s}", atFirst + ".after: the fault ends at 1m0s, which is not within the hold of 1m0s"},
		"no time at all":              {"{after: 1s, do: unplug, host: a, for: 0s}", atFirst + ".for: 0s is no time for a link to be dead"},
		"after the joining":           {"{during: join, after: 30s, do: login, host: a}", atFirst + ".after: 30s is not within the wait for the reservation of 30s"},
		"a relay that nobody has yet": {"{during: join, after: 1s, do: restart, host: held-relay}", atFirst + ".host: no relay is held before the hold"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := Read("f", []byte(simulated+"  - "+c.fault+"\n"))
			got, _, _ := strings.Cut(problems.Hinted(), "\nhint: a name has") // every wrong name has this one
			if got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestRealNetworksAreNotBroken(t *testing.T) {
	for do, fields := range map[FaultKind]string{
		Unplug: "host: a, for: 5s", Roam: "host: a, to: m", RebootRouter: "network: n",
		Readdress: "network: n", SetProfile: "network: n, profile: home",
	} {
		_, problems := Read("f", []byte(valid+"faults: [{after: 1s, do: "+string(do)+", "+fields+"}]\n"))
		want := "f:6: faults[0].do: " + string(do) + " is done to a network, and without a lab there is none of ours\n" +
			"hint: on real hosts there are kill, stop, restart, login"
		if got := problems.Hinted(); got != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", do, got, want)
		}
	}
	for _, do := range []FaultKind{Kill, Stop, Restart, Login} {
		if _, err := Parse("f", []byte(valid+"faults: [{after: 1s, do: "+string(do)+", host: a}]\n")); err != nil {
			t.Errorf("%s: %v", do, err)
		}
	}
}
