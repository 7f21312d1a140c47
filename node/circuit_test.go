package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"

	"github.com/worldcompute/wce2e/node/wire"
)

// What the public relays of libp2p allow a circuit.
const (
	publicBytes = 128 << 10
	publicSpan  = 2 * time.Minute
)

// strangersRelay is a relay as the library makes it, with its default limits.
func strangersRelay(t *testing.T) (h host.Host, addr string) {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(h, relay.WithLimit(&relay.RelayLimit{Data: publicBytes, Duration: publicSpan}),
		relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); h.Close() })
	return h, h.Addrs()[0].String() + "/p2p/" + h.ID().String()
}

// behind is a donor with a reservation on a stranger's relay, and its address.
func behind(t *testing.T, relay host.Host, addr string) (donor *testNode, to string) {
	t.Helper()
	donor = startNode(t, Config{Bootstrap: []string{addr}, Allow: []string{"any"}})
	return donor, donor.throughPeer(relay.ID())
}

// shut takes away all that the donor can be dialled at directly.
func shut(t *testing.T, donor *testNode) {
	t.Helper()
	s, ok := donor.host.Network().(*swarm.Swarm)
	if !ok {
		t.Fatalf("%T closes no listeners", donor.host.Network())
	}
	for _, a := range s.ListenAddresses() {
		if !has(a, ma.P_CIRCUIT) {
			s.ListenClose(a)
		}
	}
}

// padded is a task with a module that is longer by so many random bytes: in a
// custom section, which has no effect.
func padded(t *testing.T, by int) wasmfixtures.Task {
	t.Helper()
	task := fixture(t, "sha256")
	rest := make([]byte, by)
	random := rand.NewChaCha8([32]byte{})
	random.Read(rest)
	content := append([]byte{1, 'x'}, rest...) // its name
	task.Module = append(append(task.Module, 0), binary.AppendUvarint(nil, uint64(len(content)))...)
	task.Module = append(task.Module, content...)
	return task
}

// answering is a module of ABI 1 whose answer is n zero bytes.
func answering(n int) []byte {
	sleb := func(n int) (out []byte) {
		for ; n > 63; n >>= 7 {
			out = append(out, byte(n)|0x80)
		}
		return append(out, byte(n))
	}
	section := func(id byte, content ...byte) []byte {
		return append(binary.AppendUvarint([]byte{id}, uint64(len(content))), content...)
	}
	body := append(append([]byte{0, 0x41}, sleb(n)...), 0x0b) // i32.const n
	memory := binary.AppendUvarint([]byte{1, 0}, uint64(n>>16+1))
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 1, 0x60, 0, 1, 0x7f),
		section(3, 1, 0),
		section(5, memory...),
		section(7, append(append([]byte{2, 10}, "output_len\x00\x00"...), append([]byte{6}, "memory\x02\x00"...)...)...),
		section(10, append([]byte{1, byte(len(body))}, body...)...),
	}, nil)
}

// ask sends a task, and tells how long that took.
func ask(t *testing.T, from *testNode, to string, path wire.Path, timeout time.Duration, task wasmfixtures.Task) (wire.DispatchResult, time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), timeout+patience)
	defer cancel()
	r, err := Dispatch(ctx, from.cfg.Dir, wire.DispatchRequest{
		To: to, Path: path, Module: task.Module, Input: task.Input, TimeoutMS: timeout.Milliseconds(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, time.Since(began)
}

func TestAJobThatDoesNotFitALimitedCircuitIsRefusedAtOnce(t *testing.T) {
	relay, addr := strangersRelay(t)
	donor, to := behind(t, relay, addr)
	for name, c := range map[string]struct {
		size    int
		timeout time.Duration
		want    []string
	}{
		"too large": {size: 200_000, timeout: 20 * time.Second, want: []string{"131072 bytes each way", relay.ID().String(), "20"}},
		"too long":  {size: 0, timeout: 5 * time.Minute, want: []string{"2m0s", "5m0s", relay.ID().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			n, before := startNode(t, Config{}), len(donor.kind(wire.JobReceived))
			r, took := ask(t, n, to, wire.Relayed, c.timeout, padded(t, c.size))
			for _, want := range c.want {
				if r.Status != "" || !strings.Contains(r.Error, want) {
					t.Errorf("status %q, error %q; want %q in it", r.Status, r.Error, want)
				}
			}
			if took > 5*time.Second {
				t.Errorf("refused after %s", took)
			}
			if sent, got := n.kind(wire.JobSent), donor.kind(wire.JobReceived)[before:]; len(sent)+len(got) > 0 {
				t.Errorf("it was begun: %+v %+v", sent, got)
			}
			if again := submit(t, n, to, wire.Relayed, fixture(t, "sha256")); again.Status != string(wire.Succeeded) || again.Path != wire.Relayed {
				t.Errorf("one that fits: %+v", again)
			}
		})
	}
}

// All that a circuit is said to have room for has to arrive: that shows that
// what is kept back for other things suffices.
func TestAJobThatJustFitsALimitedCircuitArrives(t *testing.T) {
	relay, addr := strangersRelay(t)
	donor, to := behind(t, relay, addr)
	shut(t, donor) // or a direct connection would come
	n := startNode(t, Config{})
	room := int((&circuit{bytes: publicBytes}).room(0))
	bare, err := sizes(wire.NewRequest("12345678901234567890123456", "task", padded(t, room).Module, fixture(t, "sha256").Input))
	if err != nil {
		t.Fatal(err)
	}
	full := padded(t, room-(bare[wire.V11]-room))
	conns := map[string]bool{}
	for range 2 { // the second finds no room where the first went
		r, _ := ask(t, n, to, wire.Relayed, time.Minute, full)
		if r.Status != string(wire.Succeeded) || !bytes.Equal(r.Output, full.Expected) || r.Path != wire.Relayed {
			t.Fatalf("%+v", r)
		}
		conns[r.Conn] = true
	}
	if len(conns) != 2 {
		t.Errorf("they went over %v", conns)
	}
	longer := padded(t, room-(bare[wire.V11]-room)+1)
	if r, _ := ask(t, n, to, wire.Relayed, time.Minute, longer); r.Status != "" || !strings.Contains(r.Error, "do not fit") {
		t.Errorf("a byte more: %+v", r)
	}
}

func TestAJobThatDoesNotFitALimitedCircuitGoesDirectly(t *testing.T) {
	relay, addr := strangersRelay(t)
	_, to := behind(t, relay, addr)
	for name, c := range map[string]struct {
		wish wire.Path
		size int
	}{"any path": {wire.AnyPath, 200_000}, "a direct path": {wire.Direct, 0}} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, Config{})
			task := padded(t, c.size)
			r, _ := ask(t, n, to, c.wish, 10*time.Second, task)
			if r.Status != string(wire.Succeeded) || !bytes.Equal(r.Output, task.Expected) || r.Path != wire.Direct || r.Relay != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAPeerGetsAnotherChanceToPunchForAJobThatDoesNotFit(t *testing.T) {
	relay, addr := strangersRelay(t)
	donor, to := behind(t, relay, addr)
	shut(t, donor)
	n := startNode(t, Config{})
	var begun atomic.Int32
	donor.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == n.host.ID() && pathOf(c) == wire.Relayed {
			begun.Add(1)
		}
	}})
	if r := submit(t, n, to, wire.AnyPath, fixture(t, "sha256")); r.Status != string(wire.Succeeded) || r.Path != wire.Relayed {
		t.Fatalf("%+v", r)
	}
	if r, _ := ask(t, n, to, wire.AnyPath, 2*time.Second, padded(t, 200_000)); !strings.Contains(r.Error, "no direct connection came") {
		t.Errorf("%+v", r)
	}
	if begun.Load() != 2 {
		t.Errorf("%d circuits began, at each of which the donor punches once; want 2", begun.Load())
	}
}

func TestAJobThatFindsNoWayNamesTheLimitAndTheWait(t *testing.T) {
	relay, addr := strangersRelay(t)
	donor, to := behind(t, relay, addr)
	shut(t, donor)
	n := startNode(t, Config{})
	r, took := ask(t, n, to, wire.AnyPath, 2*time.Second, padded(t, 200_000))
	for _, want := range []string{"131072 bytes each way", relay.ID().String(), "no direct connection came within 2s"} {
		if r.Status != "" || !strings.Contains(r.Error, want) {
			t.Errorf("status %q, error %q; want %q in it", r.Status, r.Error, want)
		}
	}
	if took < 1500*time.Millisecond || took > 5*time.Second {
		t.Errorf("after %s", took)
	}
}

func TestAnAnswerThatDoesNotFitALimitedCircuitIsNotBegun(t *testing.T) {
	relay, addr := strangersRelay(t)
	donor, to := behind(t, relay, addr)
	shut(t, donor)
	n := startNode(t, Config{})
	// A zero byte is one byte in either version.
	envelope := len(mustEncode(t, wire.TaskDispatchResponse{TaskID: "12345678901234567890123456", Status: wire.Succeeded, DurationMS: 100}))
	most := int((&circuit{bytes: publicBytes}).room(0)) - envelope - 8
	for _, c := range []struct {
		answer int
		status wire.TaskStatus
	}{{most, wire.Succeeded}, {publicBytes, wire.TaskFailed}} {
		r, _ := ask(t, n, to, wire.Relayed, 20*time.Second, wasmfixtures.Task{Module: answering(c.answer)})
		if r.Status != string(c.status) {
			t.Errorf("%d bytes: %s %q", c.answer, r.Status, r.Error)
		}
		if c.status == wire.Succeeded {
			if len(r.Output) != c.answer {
				t.Errorf("%d bytes of %d came", len(r.Output), c.answer)
			}
			continue
		}
		for _, want := range []string{"the answer: ", "131072 bytes each way", relay.ID().String(), "ask over a direct connection"} {
			if !strings.Contains(r.Error, want) {
				t.Errorf("error %q; want %q in it", r.Error, want)
			}
		}
	}
	if c := donor.jobs.jobCounts(); c != (wire.JobCounts{Succeeded: 1, Failed: 1}) {
		t.Errorf("counts: %+v", c)
	}
}

func mustEncode(t *testing.T, r wire.TaskDispatchResponse) []byte {
	t.Helper()
	raw, err := wire.V10.EncodeResponse(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSixteenMebibytesGoThroughARelayWithoutLimits(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}, Allow: []string{"any"}})
	n := startNode(t, Config{})
	task := padded(t, 16<<20)
	r, _ := ask(t, n, donor.through(relay), wire.Relayed, time.Minute, task)
	if r.Status != string(wire.Succeeded) || !bytes.Equal(r.Output, task.Expected) || r.Path != wire.Relayed || r.Relay != relay.host.ID().String() {
		t.Errorf("%s %s %q over %q", r.Status, r.Path, r.Error, r.Relay)
	}
	checkJobRecords(t, n, donor, r, task)
	large := wasmfixtures.Task{Module: answering(16 << 20), Input: make([]byte, wire.MaxRequest)} // its size asks for 1.1.0
	if r, _ := ask(t, n, donor.through(relay), wire.Relayed, time.Minute, large); len(r.Output) != 16<<20 {
		t.Errorf("%s %q: %d bytes came", r.Status, r.Error, len(r.Output))
	}
	await(t, "the places given back", func() bool { return len(donor.jobs.large)+len(donor.jobs.receiving) == 0 })
}

func TestADonorOfTheFirstVersionIsNotSentALargeJob(t *testing.T) {
	donor := startNode(t, Config{Allow: []string{"any"}})
	donor.host.RemoveStreamHandler(protocol.ID(wire.V11.Protocol()))
	n := startNode(t, Config{})
	r := submit(t, n, donor.addr("tcp"), wire.AnyPath, padded(t, 2<<20))
	if r.Status != "" || !strings.Contains(r.Error, wire.V11.Protocol()+", which the peer does not speak") {
		t.Errorf("%s %q", r.Status, r.Error)
	}
	if r := submit(t, n, donor.addr("tcp"), wire.AnyPath, fixture(t, "sha256")); r.Status != string(wire.Succeeded) {
		t.Errorf("a small one: %+v", r)
	}
}

func TestALargeRequestWaitsForAPlaceOfItsOwn(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	for range maxLarge {
		donor.jobs.large <- struct{}{}
	}
	to, task := donor.addr("tcp"), padded(t, 2<<20)
	result := make(chan wire.DispatchResult, 1)
	go func() { result <- submit(t, n, to, wire.AnyPath, task) }()
	n.awaitEvent("the task sent", func(ev wire.Event) bool { return ev.Kind == wire.JobSent })
	if r := submit(t, n, to, wire.AnyPath, fixture(t, "noop")); r.Status != string(wire.Succeeded) {
		t.Errorf("a small one meanwhile: %+v", r)
	}
	select {
	case r := <-result:
		t.Errorf("it was received although there was no place: %+v", r)
	case <-time.After(100 * time.Millisecond):
		<-donor.jobs.large
		if r := <-result; r.Status != string(wire.Succeeded) {
			t.Errorf("result: %s %q", r.Status, r.Error)
		}
	}
	await(t, "its place given back", func() bool { return len(donor.jobs.large) == maxLarge-1 })
}

func TestAShortRequestThatMayBeAnsweredAtLengthWaitsForAPlaceToo(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{Allow: []string{"any"}})
	for range maxLarge {
		donor.jobs.large <- struct{}{}
	}
	if r := submit(t, n, donor.addr("tcp"), wire.AnyPath, fixture(t, "noop")); r.Status != string(wire.Succeeded) {
		t.Fatalf("by 1.0.0, whose answers are short: %+v", r)
	}
	task := fixture(t, "noop")
	request, err := wire.V11.EncodeRequest(wire.NewRequest("12345678901234567890123456", "noop", task.Module, task.Input))
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.host.NewStream(t.Context(), donor.host.ID(), protocol.ID(wire.V11.Protocol()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(request); err != nil || s.CloseWrite() != nil {
		t.Fatal(err)
	}
	answered := make(chan []byte, 1)
	go func() { raw, _ := io.ReadAll(s); answered <- raw }()
	select {
	case raw := <-answered:
		t.Errorf("it was answered although there was no place: %q", raw)
	case <-time.After(100 * time.Millisecond):
		<-donor.jobs.large
		if r, err := wire.V11.DecodeResponse(<-answered); err != nil || r.Status != wire.Succeeded {
			t.Errorf("%+v %v", r, err)
		}
	}
}

func TestWhatACircuitLacksIsNamed(t *testing.T) {
	soon := func(d time.Duration) time.Time { return time.Now().Add(d) }
	told := func(bytes uint64, span time.Duration) *circuit {
		return limitsOf(ma.StringCast("/ip4/1.2.3.4/tcp/4001/p2p/"+somebody+"/p2p-circuit"), network.ConnStats{
			Stats: network.Stats{Limited: true, Opened: time.Now(), Extra: map[any]any{client.StatLimitData: bytes, client.StatLimitDuration: span}},
		})
	}
	for name, c := range map[string]struct {
		circuit *circuit
		bytes   int
		until   time.Time
		want    string // empty: it fits
	}{
		"no circuit":             {nil, 1 << 30, soon(time.Hour), ""},
		"no numbers":             {told(0, 0), 1 << 30, soon(time.Hour), ""},
		"all that there is room": {told(publicBytes, publicSpan), 112<<10 - messageOverhead, soon(time.Minute), ""},
		"a byte more":            {told(publicBytes, publicSpan), 112<<10 - messageOverhead + 1, soon(time.Minute), "(114176 are left for jobs)"},
		"a tiny limit":           {told(1000, 0), 1, soon(time.Minute), "1 bytes do not fit the limit of 1000 bytes each way that relay " + somebody},
		"all of its time":        {told(publicBytes, publicSpan), 1, soon(publicSpan), "limit of 2m0s"},
		"js-libp2p's time":       {told(publicBytes, 120_000*time.Second), 1, soon(publicSpan), "limit of 2m0s"},
		"a day is a day":         {told(publicBytes, 24*time.Hour), 1, soon(23 * time.Hour), ""},
	} {
		err := c.circuit.lacks(c.bytes, c.until)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	used := told(publicBytes, publicSpan)
	if err := used.take(100 << 10); err != nil {
		t.Error(err)
	}
	if used.take(12<<10) == nil || used.lacks(12<<10, soon(time.Second)) == nil || used.lacksAnew(12<<10, soon(time.Second)) != nil {
		t.Error("what was taken is there once more, or for ever gone")
	}
}
