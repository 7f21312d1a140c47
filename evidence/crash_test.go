package evidence

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// crashRoot, when set, makes this test binary a writer that goes on until it is
// killed.
const crashRoot = "EVIDENCE_TEST_CRASH_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(crashRoot); root != "" {
		writeUntilKilled(root)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(root string) {
	w, err := Create(root, "crash", time.Now())
	if err != nil {
		panic(err)
	}
	fmt.Println(w.Dir())
	pad := strings.Repeat("x", 10_000)
	for n := 1; ; n++ {
		data, err := json.Marshal(map[string]any{"n": n, "pad": pad})
		if err != nil {
			panic(err)
		}
		seq, err := w.Append(NodeSaid, "tensor02", json.RawMessage(data))
		if err != nil {
			panic(err)
		}
		if err := w.WriteFile(MetadataFile, data); err != nil {
			panic(err)
		}
		fmt.Println(seq)
	}
}

func TestAKilledWriterLeavesAllThatItHadAccepted(t *testing.T) {
	for _, after := range []int{1, 7, 30} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashRoot+"="+t.TempDir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		watchdog := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		said := bufio.NewScanner(out)
		said.Scan()
		dir := said.Text()
		for range after {
			said.Scan()
		}
		must(t, cmd.Process.Kill())
		accepted := after
		for said.Scan() { // what it said between the two
			accepted++
		}
		cmd.Wait() // the error is the signal
		watchdog.Stop()

		b := open(t, dir)
		whole(t, b)
		if b.Sealed || len(b.Events) < accepted || len(b.Events) > accepted+1 {
			t.Errorf("it said that %d were written, and %d are there", accepted, len(b.Events))
		}
	}
}
