package wasmfixtures

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEveryFixtureFitsAPublicRelay(t *testing.T) {
	for _, name := range Names() {
		task := mustTask(t, name, bytes.Repeat([]byte{255}, MaxNonce))
		if len(task.Module) > MaxModule || len(task.Expected) > MaxAnswer {
			t.Errorf("%s: %d bytes of module, %d of answer", name, len(task.Module), len(task.Expected))
		}
	}
}

func mustTask(t *testing.T, name string, nonce []byte) Task {
	t.Helper()
	fixture, err := Get(name)
	if err != nil {
		t.Fatal(err)
	}
	task, err := fixture.Task(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestTheAnswerOfAGoodFixtureDependsOnItsNonce(t *testing.T) {
	for _, name := range Names() {
		fixture, _ := Get(name)
		if fixture.Bad {
			if mustTask(t, name, []byte{1}).Expected != nil || fixture.Word == "" || fixture.Status == "Succeeded" {
				t.Errorf("%s is bad, and has an answer or no word", name)
			}
			continue
		}
		seen := map[string]bool{}
		for range 8 {
			nonce := make([]byte, 32)
			rand.Read(nonce)
			seen[string(mustTask(t, name, nonce).Expected)] = true
		}
		if len(seen) != 8 {
			t.Errorf("%s: %d answers to 8 nonces", name, len(seen))
		}
	}
}

func TestANonceGoesWhereItsABIHasIt(t *testing.T) {
	nonce := []byte("somewhere")
	if task := mustTask(t, "sha256", nonce); !bytes.Equal(task.Input, nonce) || bytes.Contains(task.Module, nonce) {
		t.Error("ABI 2: it is not on stdin alone")
	}
	one, again := mustTask(t, "sha256-abi1", nonce), mustTask(t, "sha256-abi1", []byte("elsewhere"))
	if one.Input != nil || !bytes.Contains(one.Module, nonce) {
		t.Error("ABI 1: it is not in the module alone")
	}
	if bytes.Contains(again.Module, nonce) {
		t.Error("a nonce stays in the module for the next task")
	}
	fixture, _ := Get("sha256")
	for _, n := range []int{0, MaxNonce + 1} {
		if _, err := fixture.Task(make([]byte, n)); err == nil {
			t.Errorf("a nonce of %d bytes was taken", n)
		}
	}
	if _, err := Get("sha512"); err == nil || !strings.Contains(err.Error(), "mandelbrot") {
		t.Errorf("an unknown fixture: %v", err)
	}
}

func TestKnownAnswers(t *testing.T) {
	// FIPS 180-4's "abc".
	if got := hex.EncodeToString(sha256Sum([]byte("abc"))); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("sha256 %s", got)
	}
	// Primes and composites at the edges, a square, and the least composite that
	// the bases 2, 3, 5 and 7 take for a prime.
	for n, want := range map[uint64]bool{4294967291: true, 4294967289: false, 2147483647: true, 65521 * 65521: false, 3215031751: false} {
		if isPrime(n) != want || dividesNothing(n) != want {
			t.Errorf("%d: prime %v, by division %v, want %v", n, isPrime(n), dividesNothing(n), want)
		}
	}
	answer := primes([]byte("abc"))
	if n := len(answer) / 4; n < 1300 || n > 1700 { // 2^15 / ln 2^31.5 is about 1500
		t.Errorf("%d primes", n)
	}
	for i := 0; i < len(answer); i += 400 {
		if p := uint64(binary.LittleEndian.Uint32(answer[i:])); !dividesNothing(p) {
			t.Errorf("%d is no prime", p)
		}
	}
	image := mandelbrot([]byte("abc"))
	if shades := len(slices.Compact(slices.Sorted(slices.Values(image)))); shades < 10 {
		t.Errorf("an image of %d shades", shades)
	}
}

func dividesNothing(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// TestTheModulesAreBuiltFromTheSources holds modules/ to src/.
func TestTheModulesAreBuiltFromTheSources(t *testing.T) {
	for _, tool := range []string{"make", "clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: the modules are not rebuilt: %v (Debian: apt-get install make clang-14 lld-14)", err)
		}
	}
	version, err := exec.CommandContext(t.Context(), "clang", "--version").Output()
	if err != nil || !strings.Contains(string(version), "clang version 14.") {
		t.Skipf("SKIPPED: the modules are not rebuilt: they are LLVM 14's, and this clang is another: %q, %v", version, err)
	}
	out := t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "OUT="+out)
	build.WaitDelay = 10 * time.Second
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, said)
	}
	rebuilt, err := filepath.Glob(out + "/*.wasm")
	if err != nil || len(rebuilt) != len(Names()) {
		t.Fatalf("%d modules were built, there are %d fixtures: %v", len(rebuilt), len(Names()), err)
	}
	for _, path := range rebuilt {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := modules.ReadFile("modules/" + filepath.Base(path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes from the sources, %d in the tree; run make: %v", filepath.Base(path), len(got), len(want), err)
		}
	}
}
