package inventory

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestTheScrubbedInventoryShowsNoLogin(t *testing.T) {
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Parse("everything.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	got := inv.Scrub()
	golden(t, "everything.golden.yaml", string(got))
	for _, secret := range []string{"alice", "root@", "id_ed25519", "#", "bob"} {
		if strings.Contains(string(got), secret) {
			t.Errorf("%q is still there", secret)
		}
	}
	if !bytes.Equal(got, inv.Scrub()) {
		t.Error("a second time gives other bytes")
	}
}

func TestTheScrubbedInventorySaysTheSame(t *testing.T) {
	for _, file := range []string{"lab.yaml", "faults.yaml", "roaming.yaml", "dartmouth.yaml", "testdata/everything.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(file, inv.Scrub())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := comparable(again), comparable(inv); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", file, got, want)
		}
	}
}

// comparable leaves out what scrubbing changes: logins and lines.
func comparable(inv *Inventory) Inventory {
	c := *inv
	c.Job.Line = 0
	c.Hosts, c.Faults = nil, nil
	for _, h := range inv.Hosts {
		h.SSH, h.Line = h.Scrubbed(), 0
		c.Hosts = append(c.Hosts, h)
	}
	for _, f := range inv.Faults {
		f.Line = 0
		c.Faults = append(c.Faults, f)
	}
	if inv.Lab != nil {
		lab := *inv.Lab
		lab.Line, lab.Networks, lab.Hosts = 0, nil, nil
		for _, n := range inv.Lab.Networks {
			n.Line = 0
			lab.Networks = append(lab.Networks, n)
		}
		for _, h := range inv.Lab.Hosts {
			h.Line = 0
			lab.Hosts = append(lab.Hosts, h)
		}
		c.Lab = &lab
	}
	return c
}

func TestATargetIsWrittenAsItIsRead(t *testing.T) {
	for _, s := range []string{"local", "tensor02", "me@host.example.org", "me@host:2222", "host:22", "[2a00::1]", "me@[2a00::1]:22", `DOM\me@host`} {
		target, err := ParseTarget(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got := target.String(); got != s {
			t.Errorf("%s is written %s", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"lab.yaml", "faults.yaml", "roaming.yaml", "dartmouth.yaml", "testdata/everything.yaml", "testdata/mistakes.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "- a", "a: &x [*x]", "version: 1\n---\n", "? [a]\n: b", "version: 0x1", "!!binary x", "{", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := Parse("f", data)
		if (inv == nil) == (err == nil) {
			t.Fatalf("inventory %v and error %v", inv != nil, err)
		}
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "f:") {
					t.Fatalf("a line that says not where: %q", line)
				}
			}
			return
		}
		again, err := Parse("f", inv.Scrub())
		if err != nil {
			t.Fatalf("scrubbed, it is wrong: %v\n%s", err, inv.Scrub())
		}
		if got, want := comparable(again), comparable(inv); !reflect.DeepEqual(got, want) {
			t.Fatalf("scrubbed, it says something else:\n%+v\n%+v", got, want)
		}
	})
}
