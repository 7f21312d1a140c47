// Package wasmfixtures is the jobs that the suite sends: modules compiled from
// the sources beside it, and the answers that donors must give, computed here
// in Go without any WebAssembly.
//
// A good fixture takes a nonce on which every byte of its answer may depend, so
// that no answer can be prepared. A bad one does what a donor has to survive.
package wasmfixtures

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:embed modules/*.wasm
var modules embed.FS

// Sizes, in bytes.
const (
	MaxNonce  = 64       // of a nonce
	MaxModule = 32 << 10 // of a fixture's module: with 1.9 bytes on the wire for each it passes a public relay's 128 KiB
	MaxAnswer = 48 << 10 // of a fixture's answer, for the same reason
)

// marker begins the part of a module of ABI 1 into which the nonce is written:
// behind it, one byte for the nonce's length, then MaxNonce bytes.
const marker = "wce2e-nonce-here"

// Fixture is one job.
type Fixture struct {
	Name   string
	ABI    int    // 1 imports nothing; 2 imports WASI preview 1; 0 for what is neither
	Bad    bool   // it must not succeed
	Status string // how the task ends: Succeeded, Failed or Timeout, as in the dispatch protocol
	Word   string // of a bad one: the word in the error by which a submitter recognises what went wrong
	answer func(nonce []byte) []byte
}

// Task is a fixture made out for one nonce.
type Task struct {
	Module   []byte // as sent, with the nonce in it for ABI 1
	Input    []byte // the input under the name "stdin"; nil for ABI 1
	Expected []byte // the answer; nil for a bad fixture
}

var all = index(
	good("noop", noop),
	good("sha256", sha256Sum),
	good("primes", primes),
	good("mandelbrot", mandelbrot),
	[]Fixture{
		bad("bad-trap", 1, "Failed", "trap"),
		bad("bad-loop", 1, "Timeout", "wall time"),
		bad("bad-memory-bomb", 1, "Failed", "memory limit"),
		bad("bad-endless-output", 2, "Failed", "output limit"),
		bad("bad-not-wasm", 0, "Failed", "not WebAssembly"),
		bad("bad-unknown-import", 0, "Failed", "unknown imports"),
	},
)

// good is a computation in both ABIs.
func good(name string, answer func([]byte) []byte) []Fixture {
	return []Fixture{
		{Name: name, ABI: 2, Status: "Succeeded", answer: answer},
		{Name: name + "-abi1", ABI: 1, Status: "Succeeded", answer: answer},
	}
}

func bad(name string, abi int, status, word string) Fixture {
	return Fixture{Name: name, ABI: abi, Bad: true, Status: status, Word: word}
}

func index(groups ...[]Fixture) map[string]Fixture {
	out := map[string]Fixture{}
	for _, f := range slices.Concat(groups...) {
		out[f.Name] = f
	}
	return out
}

// Names lists the fixtures in alphabetical order.
func Names() []string { return slices.Sorted(maps.Keys(all)) }

// Get returns the fixture of that name; an unknown name's error lists the known ones.
func Get(name string) (Fixture, error) {
	f, ok := all[name]
	if !ok {
		return Fixture{}, fmt.Errorf("no fixture %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return f, nil
}

// Task makes the fixture out for a nonce of 1 to MaxNonce bytes.
func (f Fixture) Task(nonce []byte) (Task, error) {
	if len(nonce) == 0 || len(nonce) > MaxNonce {
		return Task{}, fmt.Errorf("fixture %s: a nonce has 1 to %d bytes, not %d", f.Name, MaxNonce, len(nonce))
	}
	module, err := modules.ReadFile("modules/" + f.Name + ".wasm")
	if err != nil {
		return Task{}, fmt.Errorf("fixture %q: %w", f.Name, err)
	}
	task := Task{Module: module}
	if !f.Bad {
		task.Expected = f.answer(nonce)
	}
	if f.ABI != 1 {
		task.Input = bytes.Clone(nonce)
	} else if !f.Bad {
		err = patch(task.Module, nonce)
	}
	if err != nil {
		return Task{}, fmt.Errorf("fixture %s: %w", f.Name, err)
	}
	return task, nil
}

// patch writes the nonce behind the module's marker.
func patch(module, nonce []byte) error {
	at := bytes.Index(module, []byte(marker))
	if at < 0 || bytes.LastIndex(module, []byte(marker)) != at {
		return fmt.Errorf("the module has the marker %q not exactly once", marker)
	}
	at += len(marker)
	if len(module) < at+1+MaxNonce {
		return fmt.Errorf("the module ends behind the marker")
	}
	module[at] = byte(len(nonce))
	copy(module[at+1:], nonce)
	return nil
}
