package inventory

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", path, got)
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	data, err := os.ReadFile("testdata/mistakes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Parse("inventory/mistakes.yaml", data)
	if inv != nil {
		t.Error("a wrong inventory was handed out")
	}
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("the error is %T, want Problems", err)
	}
	golden(t, "mistakes.golden", ps.Hinted()+"\n")
	for line := range strings.Lines(ps.Error()) {
		if strings.HasPrefix(line, "hint:") || strings.Contains(line, "secret") {
			t.Errorf("a line that has no place in an error: %s", line)
		}
	}
}

// valid is the smallest inventory, in the lines that cases below put things into.
const valid = `version: 1
name: small
hosts:
  a: {ssh: a, role: donor}
  b: {ssh: b, role: submitter}
`

func TestWhatIsWrongIsSaidAtItsLine(t *testing.T) {
	withHost := func(fields string) string {
		return "version: 1\nname: small\nhosts:\n  a: {ssh: a, role: donor}\n  b: {ssh: b, role: submitter}\n  c: {" + fields + "}\n"
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                       {"", "f:1: empty"},
		"only a comment":                {"# nothing\n", "f:1: empty"},
		"a null":                        {"~\n", "f:1: empty"},
		"a list":                        {"- a\n", "f:1: want fields such as `version: 1`, got a list"},
		"a tab":                         {"version: 1\nname:\n\t- x\n", "f:3: not YAML: found character that cannot start any token"},
		"two documents":                 {valid + "---\nversion: 1\n", "f:6: a second document: an inventory is one"},
		"an unclosed bracket":           {valid + "relays: [\n", "f:6: not YAML: did not find expected node content"},
		"no version":                    {"name: small\n", "f:1: version: missing"},
		"another version":               {"version: 2\nwhatever: 1\n", "f:1: version: 2 is not a version that this program reads"},
		"a version in words":            {"version: one\n", `f:1: version: want a whole number, got the text "one"`},
		"no hosts":                      {"version: 1\nname: x\n", "f:1: hosts: missing"},
		"no donor, no submitter":        {"version: 1\nname: x\nhosts:\n  a: {ssh: a, role: relay}\n", "f:3: hosts: no host has the role donor; a run takes exactly one for now\nf:3: hosts: no host has the role submitter; a run takes exactly one for now"},
		"a number for text":             {"name: 2026\n" + strings.Replace(valid, "name: small\n", "", 1), `f:1: name: want text, got the number "2026"`},
		"a merge key":                   {withHost("<<: {role: relay}, ssh: c, role: relay"), "f:6: hosts.c: merge keys (<<) are not understood"},
		"a list as a key":               {withHost("[a]: b, ssh: c, role: relay"), "f:6: hosts.c: a name must be text, not a list"},
		"a key with a line break":       {valid + `"a\nb": 1`, `f:6: "a\nb": unknown field`},
		"a login only":                  {withHost("ssh: me@, role: relay"), `f:6: hosts.c.ssh: "" is not an SSH target`},
		"an option as a login":          {withHost("ssh: -l@x, role: relay"), `f:6: hosts.c.ssh: login "-l" is not an SSH target`},
		"a login local":                 {withHost("ssh: me@local, role: relay"), ""},
		"port 0":                        {withHost(`ssh: "x:0", role: relay`), "f:6: hosts.c.ssh: 0 is not a TCP port"},
		"a port in words":               {withHost(`ssh: "x:ssh", role: relay`), `f:6: hosts.c.ssh: "ssh" is not a TCP port`},
		"no port behind the colon":      {withHost(`ssh: "x:", role: relay`), `f:6: hosts.c.ssh: "" is not a TCP port`},
		"a bare IPv6 address":           {withHost(`ssh: "2a00::1", role: relay`), `f:6: hosts.c.ssh: "2a00::1" is not an SSH target`},
		"an IPv6 address":               {withHost(`ssh: "me@[2a00::1]:22", role: relay`), ""},
		"an IPv6 address without port":  {withHost(`ssh: "me@[2a00::1]", role: relay`), ""},
		"IPv4 in brackets":              {withHost(`ssh: "[1.2.3.4]", role: relay`), `f:6: hosts.c.ssh: "[1.2.3.4]" is not an SSH target`},
		"this machine, twice":           {strings.NewReplacer("ssh: a", "ssh: local", "ssh: b", "ssh: local").Replace(valid), ""},
		"one machine, two logins":       {withHost("ssh: root@b, role: relay"), "f:6: hosts.c.ssh: is the machine of b already: the claims are about different ones"},
		"one machine, another port":     {withHost(`ssh: "b:2222", role: relay`), ""},
		"a relay that is nowhere":       {valid + "relays: [/memory/1]", "f:6: relays[0]: starts with /memory, which is no place on a network"},
		"a relay without a port":        {valid + "relays: [/ip4/1.2.3.4/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN]", "f:6: relays[0]: names no TCP or UDP port"},
		"a dnsaddr with more":           {valid + "relays: [/dnsaddr/x.org/tcp/1]", "f:6: relays[0]: a /dnsaddr stands for whole addresses: only /p2p/PEER may follow its name"},
		"relays left open":              {valid + "relays:\n", ""},
		"a relay in text":               {valid + "relays: /dnsaddr/x.org", `f:6: relays: want a list, got the text "/dnsaddr/x.org"`},
		"a number as a duration":        {valid + "run: {hold: 600}", `f:6: run.hold: "600" is not a duration`},
		"run as text":                   {valid + "run: fast", "f:6: run: want fields (`name: value`), got the text \"fast\""},
		"a peer in listen":              {withHost("ssh: c, role: relay, listen: [/ip4/0.0.0.0/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN]"), "f:6: hosts.c.listen[0]: a node knows its own peer ID: leave /p2p out"},
		"listen twice":                  {withHost("ssh: c, role: relay, listen: [/ip4/0.0.0.0/tcp/1, /ip4/0.0.0.0/tcp/1]"), "f:6: hosts.c.listen[1]: is listed already"},
		"nothing to listen on":          {withHost("ssh: c, role: relay, listen: [/ip4/0.0.0.0]"), `f:6: hosts.c.listen[0]: "/ip4/0.0.0.0" is nothing to listen on: it takes an IP address and a port`},
		"a lab without a relay":         {valid + "lab: {networks: {n: {profile: open}}, hosts: {a: n, b: n}}", "f:6: lab: no relay: the built-in ones are out of the lab's reach"},
		"a lab left open":               {valid + "lab:\nrelays: [/dnsaddr/x.org]", "f:6: lab.networks: missing\nf:6: lab.hosts: missing\nf:4: hosts.a.ssh: a is not a host of the lab, and a simulated network reaches no other machine\nf:5: hosts.b.ssh: b is not a host of the lab, and a simulated network reaches no other machine"},
		"this machine in a lab":         {strings.Replace(valid, "ssh: b", "ssh: local", 1) + "relays: [/dnsaddr/x.org]\nlab: {networks: {n: {profile: open}}, hosts: {a: n}}", "f:5: hosts.b.ssh: local is not a host of the lab, and a simulated network reaches no other machine"},
		"too many bystanders":           {valid + "relays: [/dnsaddr/x.org]\nlab: {bystanders: 65, networks: {n: {profile: open}}, hosts: {a: n, b: n}}", "f:7: lab.bystanders: 65 is not from 0 to 64"},
		"a negative latency":            {valid + "relays: [/dnsaddr/x.org]\nlab: {latency: -1ms, networks: {n: {profile: open}}, hosts: {a: n, b: n}}", "f:7: lab.latency: -1ms is not from 0s to 5s"},
		"a profile of two":              {valid + "relays: [/dnsaddr/x.org]\nlab: {networks: {n: {profile: symmetric + udp-blocked}}, hosts: {a: n, b: n}}", ""},
		"a profile of one and a half":   {valid + "relays: [/dnsaddr/x.org]\nlab: {networks: {n: {profile: symmetric +}}, hosts: {a: n, b: n}}", `f:7: lab.networks.n.profile: "" is not a name`},
		"a fault after the hold":        {valid + "faults: [{after: 10m, do: kill, host: a}]", "f:6: faults[0].after: 10m0s is not within the hold of 10m0s"},
		"a fault of nobody's relay":     {valid + "faults: [{after: 1m, do: kill, host: held-relay}]", "f:6: faults[0].host: no host has the role relay, and what is not ours is not broken"},
		"an alias":                      {"version: 1\nname: x\nhosts:\n  a: {ssh: a, role: donor, listen: &l [/ip4/0.0.0.0/tcp/1]}\n  b: {ssh: b, role: submitter, listen: *l}\n", ""},
		"an alias of nothing":           {valid + "relays: *l", "f:1: not YAML: unknown anchor 'l' referenced"},
		"an alias that contains itself": {valid + "relays: &l [*l]", "f:6: relays[0]: want text, got a list"},
		"too long a list":               {valid + "relays: [" + strings.Repeat("/dnsaddr/x.org,", 300) + "]", "f:6: relays: 300 entries are too many: at most 256"},
		"not UTF-8":                     {valid + "relays: [\xff]", "f:1: not YAML: invalid leading UTF-8 octet"},
		"far too large":                 {valid + strings.Repeat("#", maxBytes), "f:1: larger than 1048576 bytes: this is no inventory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(c.in))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if want := sortedLines(c.want); sortedLines(got) != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func sortedLines(s string) string {
	ps := strings.Split(s, "\n")
	for i := range ps {
		for j := i + 1; j < len(ps); j++ {
			if ps[j] < ps[i] {
				ps[i], ps[j] = ps[j], ps[i]
			}
		}
	}
	return strings.Join(ps, "\n")
}

func TestWhatTheFileLeavesOutHasADefault(t *testing.T) {
	inv, err := Parse("f", []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	want := &Inventory{
		File: "f", Version: 1, Name: "small", Area: "firewall-traversal",
		Hosts: []Host{{Name: "a", SSH: "a", Role: Donor, Line: 4}, {Name: "b", SSH: "b", Role: Submitter, Line: 5}},
		Run:   Run{Hold: 10 * time.Minute, Observe: 5 * time.Minute, Lease: time.Minute},
		Job:   Job{Fixture: "sha256"},
	}
	if !reflect.DeepEqual(inv, want) {
		t.Errorf("got  %+v\nwant %+v", inv, want)
	}
}

func TestFaultsComeInTheOrderOfTime(t *testing.T) {
	inv, err := Parse("f", []byte(valid+`faults:
  - {after: 2m, do: stop, host: b}
  - {after: 0s, do: kill, host: a}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Fault{{After: 0, Do: "kill", Host: "a", Line: 8}, {After: 2 * time.Minute, Do: "stop", Host: "b", Line: 7}}
	if !reflect.DeepEqual(inv.Faults, want) {
		t.Errorf("got %+v, want %+v", inv.Faults, want)
	}
}

func TestTheShippedInventoriesAreRight(t *testing.T) {
	for name, hosts := range map[string]string{
		"lab.yaml": "tensor02 laptop relay1 relay2", "dartmouth.yaml": "tensor02 home",
		"faults.yaml": "tensor02 laptop relay1 relay2", "roaming.yaml": "laptop desktop relay1",
	} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := Parse(name, data)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		var names []string
		for _, h := range inv.Hosts {
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != hosts {
			t.Errorf("%s: hosts %s, want %s", name, got, hosts)
		}
	}
}

func TestTheRelayCommentedIntoDartmouthIsRight(t *testing.T) {
	data, err := os.ReadFile("dartmouth.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(data), "  # relay1:\n")
	if !ok {
		t.Fatal("there is no commented relay1 any more")
	}
	with := strings.Replace(string(data), "  # relay1:\n"+after, "  relay1:\n"+strings.Replace(after, "  #   ", "    ", 5), 1)
	inv, err := Parse("dartmouth.yaml", []byte(with))
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Hosts) != 3 || inv.Hosts[2].Role != Relay || len(inv.Hosts[2].Listen) != 3 || len(inv.Hosts[2].Announce) != 1 {
		t.Errorf("the third host is %+v", inv.Hosts[2:])
	}
}

func TestALaterStageReportsInTheSameShape(t *testing.T) {
	inv, err := Parse("inventory/lab.yaml", Default)
	if err != nil {
		t.Fatal(err)
	}
	n := inv.Lab.Networks[0]
	got := Problems{inv.Lab.Problem(n.Line, "lab.networks."+n.Name+".profile", "unknown profile"), inv.Problem(inv.Job.Line, "job.fixture", "unknown fixture")}.Error()
	if lines := strings.Split(string(Default), "\n"); !strings.Contains(lines[n.Line-1], "institutional") || !strings.Contains(lines[inv.Job.Line-1], "sha256") {
		t.Errorf("lines %d and %d are not where these stand", n.Line, inv.Job.Line)
	}
	if !strings.Contains(got, "inventory/lab.yaml:") || !strings.Contains(got, ": lab.networks.campus.profile: unknown profile") {
		t.Errorf("got %s", got)
	}
}

func TestAHostileFileIsAnsweredSoon(t *testing.T) {
	row := strings.Repeat("*l, ", 250)
	bomb := "version: 1\nname: x\nhosts:\n"
	for i := range 250 {
		bomb += "  h" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + ": {ssh: x, role: relay, listen: &l" + " [/ip4/0.0.0.0/tcp/1]" + "}\n"
	}
	bomb += "relays: [" + row + "]\n"
	start := time.Now()
	_, err := Parse("f", []byte(bomb))
	if took := time.Since(start); err == nil || took > 5*time.Second {
		t.Errorf("took %s, error %v", took, err != nil)
	}
	var ps Problems
	if errors.As(err, &ps) && len(ps) > maxProblems {
		t.Errorf("%d problems", len(ps))
	}
}
