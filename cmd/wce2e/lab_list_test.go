package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func TestTheCatalogueOfProfilesIsUpToDate(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: there are no profiles on " + runtime.GOOS)
	}
	var want bytes.Buffer
	if err := printProfilesMarkdown(&want, lab.Profiles()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(repoRoot, "docs", "profiles.md"))
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/profiles.md is another one than the profiles make: make profiles writes it (%v)", err)
	}
}

func TestWhatIsWrongWithAProofDependsOnWhatIsTried(t *testing.T) {
	stands := lab.Proof{Profile: "home", Name: "masquerade", Saw: "a port"}
	fails := lab.Proof{Profile: "home", Name: "masquerade", Err: "no port"}
	hidden := lab.Proof{Profile: "home + blocked", Name: "masquerade", Hidden: "nothing passes"}
	for _, c := range []struct {
		proof           lab.Proof
		proven, mutated bool // whether it is as it must be
	}{{stands, true, false}, {fails, false, true}, {hidden, true, false}} {
		if got := proven(c.proof) == ""; got != c.proven {
			t.Errorf("a self-test with %+v passes: %t", c.proof, got)
		}
		if got := survived(c.proof) == ""; got != c.mutated {
			t.Errorf("a mutation run with %+v passes: %t", c.proof, got)
		}
	}
	var out bytes.Buffer
	if err := printProofs(&out, []lab.Proof{stands, fails}, proven); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !bytes.Contains(out.Bytes(), []byte("WRONG: ")) || bytes.Count(out.Bytes(), []byte("home ")) != 1 {
		t.Errorf("the table is\n%s", got)
	}
}
