package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worldcompute/wce2e/e2e/lab"
)

var update = flag.Bool("update", false, "write the expected outputs in testdata/script anew")

// TestMain lets a script say `exec wce2e ...`: the test binary is the command.
func TestMain(m *testing.M) {
	lab.Reexec()
	if len(os.Args) > 1 {
		plain := map[string]func([]string) error{plainDonor: runPlainDonor, plainRelay: func([]string) error { return runPlainRelay() }}
		if run := plain[os.Args[1]]; run != nil {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	testscript.Main(m, map[string]func(){
		"wce2e": func() { os.Exit(run()) },
	})
}

// TestScripts runs the command line as a person does. Each file in
// testdata/script starts with a sentence that says what it shows. A script may
// use the condition [short] and the command `exit CODE wce2e ...`.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               ordinaryUser,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exit": exits},
	})
}

// ordinaryUser gives a script a home of its own, empty.
func ordinaryUser(env *testscript.Env) error {
	home := env.WorkDir + "/home"
	env.Setenv("HOME", home)
	env.Setenv("XDG_STATE_HOME", home+"/state")
	env.Setenv("XDG_CACHE_HOME", home+"/cache")
	env.Setenv("XDG_RUNTIME_DIR", home+"/run") // where no lab stands
	return os.MkdirAll(home+"/run", 0o700)
}

// exits runs a command that must end with an exit code:
//
//	exit 64 wce2e inventory check bad.yaml
func exits(ts *testscript.TestScript, neg bool, a []string) {
	if neg || len(a) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(a[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(a[1], a[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", a[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
