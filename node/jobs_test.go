package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"

	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"

	"github.com/worldcompute/wce2e/node/wire"
)

// fixture is a task with a fresh nonce.
func fixture(t testing.TB, name string) wasmfixtures.Task {
	t.Helper()
	f, err := wasmfixtures.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	task, err := f.Task(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// submit sends a task through the submitter's local API.
func submit(t testing.TB, from *testNode, to string, path wire.Path, task wasmfixtures.Task) wire.DispatchResult {
	t.Helper()
	r, err := Dispatch(short(t), from.cfg.Dir, wire.DispatchRequest{To: to, Path: path, Module: task.Module, Input: task.Input})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAJobGoesThroughTheCircuitAlthoughADirectConnectionStands(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	n := startNode(t, Config{})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}, Allow: []string{n.host.ID().String()}})
	to, task := donor.through(relay), fixture(t, "sha256")

	direct := submit(t, n, donor.addr("tcp"), wire.Direct, task)
	if direct.Status != string(wire.Succeeded) || direct.Path != wire.Direct || direct.ConnectMS == 0 {
		t.Fatalf("direct: %+v", direct)
	}
	for _, wish := range []wire.Path{wire.Relayed, wire.Relayed} {
		r := submit(t, n, to, wish, task)
		if r.Status != string(wire.Succeeded) || !bytes.Equal(r.Output, task.Expected) {
			t.Fatalf("result: %+v", r)
		}
		if r.Path != wire.Relayed || r.Relay != relay.host.ID().String() {
			t.Errorf("it went %s through %q", r.Path, r.Relay)
		}
		checkJobRecords(t, n, donor, r, task)
	}
	if c := donor.jobs.jobCounts(); c != (wire.JobCounts{Succeeded: 3}) {
		t.Errorf("counts: %+v", c)
	}
}

// checkJobRecords compares both ends' records of one task.
func checkJobRecords(t *testing.T, n, donor *testNode, r wire.DispatchResult, task wasmfixtures.Task) {
	t.Helper()
	of := func(node *testNode, k wire.Kind) wire.Event {
		found := node.find(func(ev wire.Event) bool { return ev.Kind == k && ev.Task == r.TaskID })
		if len(found) != 1 {
			t.Fatalf("%d records of %s", len(found), k)
		}
		return found[0]
	}
	for _, ev := range []wire.Event{of(n, wire.JobSent), of(donor, wire.JobReceived), of(n, wire.JobEnded), of(donor, wire.JobEnded)} {
		if ev.Path != wire.Relayed || ev.Relay != r.Relay || ev.Conn == "" ||
			ev.ModuleSHA256 != sha256hex(task.Module) || ev.InputSHA256 != sha256hex(task.Input) {
			t.Errorf("record: %+v", ev)
		}
		if ev.Kind == wire.JobEnded && (ev.Status != string(wire.Succeeded) || ev.OutputSHA256 != sha256hex(task.Expected)) {
			t.Errorf("record: %+v", ev)
		}
	}
	if sent := of(n, wire.JobSent); sent.Peer != donor.host.ID().String() {
		t.Errorf("sent to %s", sent.Peer)
	}
	if got := of(donor, wire.JobReceived); got.Peer != n.host.ID().String() {
		t.Errorf("received from %s", got.Peer)
	}
}

func TestAJobTakesTheCircuitThatStands(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("quic-v1")}, Allow: []string{"any"}})
	n := startNode(t, Config{})
	to, task := donor.through(relay), fixture(t, "sha256")
	cold := submit(t, n, to, wire.Relayed, task)
	warm := submit(t, n, to, wire.AnyPath, task)
	if cold.Status != string(wire.Succeeded) || cold.ConnectMS == 0 || warm.ConnectMS != 0 || warm.Conn != cold.Conn {
		t.Errorf("cold %+v, warm %+v", cold, warm)
	}
	if dials := n.kind(wire.DialStarted); len(dials) != 2 { // the relay, the circuit
		t.Errorf("dials: %+v", dials)
	}
}

func TestADonorRefusesWhoIsNotAllowed(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{somebody}})
	r := submit(t, n, donor.addr("tcp"), wire.AnyPath, fixture(t, "sha256"))
	if r.Status != string(wire.TaskFailed) || !strings.Contains(r.Error, "allow-list") || !strings.Contains(r.Error, n.host.ID().String()) {
		t.Errorf("result: %+v", r)
	}
	if c := donor.jobs.jobCounts(); c != (wire.JobCounts{Refused: 1}) {
		t.Errorf("counts: %+v", c)
	}
	if got := donor.kind(wire.JobReceived); len(got) != 0 {
		t.Errorf("it was received: %+v", got)
	}
	ended := donor.kind(wire.JobEnded)
	if len(ended) != 1 || ended[0].Peer != n.host.ID().String() || !strings.Contains(ended[0].Err, "allow-list") || ended[0].Task != "" {
		t.Errorf("records: %+v", ended)
	}
}

func TestAStrangerIsRefusedUnreadAndFillsNoDisk(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{})
	for range cap(donor.jobs.receiving) { // nothing can be received
		donor.jobs.receiving <- struct{}{}
	}
	const times = 5
	for i := range times {
		to := donor.addr([]string{"tcp", "quic-v1"}[i%2])
		r, err := Dispatch(short(t), n.cfg.Dir, wire.DispatchRequest{To: to, Module: make([]byte, wire.MaxRequest-1024)})
		if err != nil || r.Status != string(wire.TaskFailed) || !strings.Contains(r.Error, "allow-list") {
			t.Fatalf("result: %+v, %v", r, err)
		}
	}
	if c := donor.jobs.jobCounts(); c != (wire.JobCounts{Refused: times}) {
		t.Errorf("counts: %+v", c)
	}
	if got := donor.kind(wire.JobEnded); len(got) != 1 {
		t.Errorf("%d records of %d refusals", len(got), times)
	}
}

func TestAStrangerWhoSendsNothingIsAnsweredToo(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{})
	n.host.Peerstore().AddAddrs(donor.host.ID(), donor.host.Addrs(), peerstore.TempAddrTTL)
	s, err := n.host.NewStream(short(t), donor.host.ID(), protocol.ID(wire.V10.Protocol()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.SetReadDeadline(time.Now().Add(patience))
	s.Write([]byte{0xa3}) // and nothing more
	raw, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := wire.V10.DecodeResponse(raw); err != nil || answer.Status != wire.TaskFailed || answer.TaskID != "" {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestARequestWaitsForAPlaceToBeRead(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	for range cap(donor.jobs.receiving) {
		donor.jobs.receiving <- struct{}{}
	}
	to, task := donor.addr("tcp"), fixture(t, "noop")
	result := make(chan wire.DispatchResult, 1)
	go func() { result <- submit(t, n, to, wire.AnyPath, task) }()
	n.awaitEvent("the task sent", func(ev wire.Event) bool { return ev.Kind == wire.JobSent })
	select {
	case r := <-result:
		t.Errorf("it was received although there was no place: %+v", r)
	case <-time.After(100 * time.Millisecond):
		<-donor.jobs.receiving
		if r := <-result; r.Status != string(wire.Succeeded) {
			t.Errorf("result: %+v", r)
		}
	}
	await(t, "its place given back", func() bool { return len(donor.jobs.receiving) == cap(donor.jobs.receiving)-1 })
}

func TestALoopComesBackAsATimeoutBeforeTheClientGivesUp(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	task := fixture(t, "bad-loop")
	const timeout = 5 * time.Second
	began := time.Now()
	r, err := Dispatch(short(t), n.cfg.Dir, wire.DispatchRequest{
		To: donor.addr("tcp"), Module: task.Module, Input: task.Input, TimeoutMS: timeout.Milliseconds(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); r.Status != string(wire.Timeout) || took >= timeout {
		t.Errorf("after %s: %+v", took, r)
	}
	if c := donor.jobs.jobCounts(); c != (wire.JobCounts{Failed: 1}) {
		t.Errorf("the donor still computes, or did not: %+v", c)
	}
}

func TestTheWallTimeLeavesTimeForTheAnswer(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		time.Minute: 58 * time.Second, 2500 * time.Millisecond: time.Second, time.Second: time.Second, -time.Second: time.Second,
	} {
		if got := walltime(left); got != want {
			t.Errorf("with %s left: %s, want %s", left, got, want)
		}
	}
	for ms, want := range map[int64]time.Duration{0: time.Minute, -1: time.Minute, 1500: 1500 * time.Millisecond, math.MaxInt64: time.Hour} {
		if got := dispatchTimeout(wire.DispatchRequest{TimeoutMS: ms}); got != want {
			t.Errorf("%d ms: %s, want %s", ms, got, want)
		}
	}
}

func TestASubmitterIsKeptWhileItsJobIsServed(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	to, task := donor.addr("tcp"), fixture(t, "bad-loop")
	ask := wire.DispatchRequest{To: to, Module: task.Module, Input: task.Input, TimeoutMS: 3000}
	done := make(chan error, 1)
	go func() { _, err := Dispatch(short(t), n.cfg.Dir, ask); done <- err }()
	kept := func() bool { return donor.host.ConnManager().IsProtected(n.host.ID(), "") }
	await(t, "the job running", func() bool { return donor.jobs.jobCounts().Running == 1 })
	if !kept() {
		t.Error("its connection may be closed")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await(t, "the protection gone", func() bool { return !kept() })
}

func TestAQuestionThatIsWrongInItselfIsABadRequest(t *testing.T) {
	n := startNode(t, Config{})
	good := wire.DispatchRequest{To: "/ip4/127.0.0.1/tcp/1/p2p/" + somebody}
	for name, change := range map[string]func(*wire.DispatchRequest){
		"an address":  func(r *wire.DispatchRequest) { r.To = "junk" },
		"a path":      func(r *wire.DispatchRequest) { r.Path = "scenic" },
		"a module":    func(r *wire.DispatchRequest) { r.Module = make([]byte, wire.MaxLargeRequest) },
		"a task's ID": func(r *wire.DispatchRequest) { r.TaskID = strings.Repeat("t", wire.MaxTaskID+1) },
	} {
		ask := good
		change(&ask)
		if _, err := Dispatch(short(t), newDir(t), ask); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s, without a node: %v", name, err)
		}
		body, err := json.Marshal(ask)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a large module takes a busy machine its time
		err = call(ctx, n.cfg.Dir, http.MethodPost, "/dispatch", body, &wire.DispatchResult{})
		if cancel(); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s, to a node: %v", name, err)
		}
	}
}

func TestBadModulesFailClearlyAndTheDonorGoesOn(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	for _, name := range wasmfixtures.Names() {
		f, err := wasmfixtures.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Bad || name == "bad-loop" { // a loop takes its whole wall time
			continue
		}
		r := submit(t, n, donor.addr("tcp"), wire.AnyPath, fixture(t, name))
		if r.Status != string(wire.TaskFailed) || r.Error == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	task := fixture(t, "sha256")
	if r := submit(t, n, donor.addr("tcp"), wire.AnyPath, task); !bytes.Equal(r.Output, task.Expected) {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestMalformedRequestsAreAnswered(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	n.host.Peerstore().AddAddrs(donor.host.ID(), donor.host.Addrs(), peerstore.TempAddrTTL)
	for name, request := range map[string][]byte{
		"nothing":        {},
		"no CBOR":        []byte("hello"),
		"one byte a lot": bytes.Repeat([]byte{0}, wire.MaxRequest+1),
	} {
		s, err := n.host.NewStream(short(t), donor.host.ID(), protocol.ID(wire.V10.Protocol()))
		if err != nil {
			t.Fatal(err)
		}
		// The donor stops reading at its limit.
		if _, err := s.Write(request); err != nil && len(request) < wire.MaxRequest {
			t.Fatal(err)
		}
		s.CloseWrite()
		raw, err := io.ReadAll(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answer, err := wire.V10.DecodeResponse(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if answer.Status != wire.TaskFailed || answer.Error == nil || !strings.Contains(*answer.Error, "malformed request") {
			t.Errorf("%s: %+v", name, answer)
		}
	}
}

func TestADispatchThatCannotArriveSaysWhy(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	n := startNode(t, Config{})
	task := fixture(t, "sha256")
	for name, c := range map[string]struct {
		to   string
		path wire.Path
		want string
	}{
		"no reservation":              {relay.addr("tcp") + "/p2p-circuit/p2p/" + somebody, wire.Relayed, "NO_RESERVATION"},
		"nobody listens":              {closedPort(t).String() + "/p2p/" + somebody, wire.Direct, "refused"},
		"a relayed path, no relay":    {relay.addr("tcp"), wire.Relayed, "does not go that way"},
		"a peer without the protocol": {withoutJobs(t), wire.Direct, "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			r := submit(t, n, c.to, c.path, task)
			if r.Status != "" || !strings.Contains(r.Error, c.want) {
				t.Errorf("result: %+v", r)
			}
		})
	}
}

func TestADispatchIsNotAnsweredWithBackoff(t *testing.T) {
	n := startNode(t, Config{})
	to, task := closedPort(t).String()+"/p2p/"+somebody, fixture(t, "noop")
	for range 3 {
		if r := submit(t, n, to, wire.Direct, task); !strings.Contains(r.Error, "refused") {
			t.Errorf("result: %+v", r)
		}
		if r := submit(t, n, to, wire.AnyPath, task); !strings.Contains(r.Error, "refused") {
			t.Errorf("result: %+v", r)
		}
	}
	if dials := n.rec.dialCounts().Failed; dials != 6 {
		t.Errorf("%d dials were made", dials)
	}
}

// withoutJobs is a node that takes none.
func withoutJobs(t *testing.T) string {
	n := startNode(t, Config{})
	for _, v := range wire.Versions {
		n.host.RemoveStreamHandler(protocol.ID(v.Protocol()))
	}
	return n.addr("tcp")
}

func TestAJobThatRunsWhenTheDonorStopsIsPreempted(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	to, task := donor.addr("tcp"), fixture(t, "bad-loop")
	result := make(chan wire.DispatchResult, 1)
	go func() { result <- submit(t, n, to, wire.AnyPath, task) }()
	await(t, "the job running", func() bool { return donor.jobs.jobCounts().Running == 1 })
	donor.end()
	if r := <-result; r.Status != string(wire.Preempted) {
		t.Errorf("result: %+v", r)
	}
	if n.host.Network().Connectedness(donor.host.ID()) == network.Connected {
		await(t, "the connection gone", func() bool {
			return n.host.Network().Connectedness(donor.host.ID()) != network.Connected
		})
	}
}
