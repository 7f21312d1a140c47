package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

var update = flag.Bool("update", false, "write the golden bytes anew")

func ptr[T any](v T) *T { return &v }

// fullRequest has every field set, every option once.
func fullRequest() TaskDispatchRequest {
	r := NewRequest("task-1", "sum", []byte("\x00asm\x01\x00\x00\x00"), []byte{0, 23, 24, 255})
	m := &r.Manifest
	m.ManifestCID = ptr(RawCID([]byte("manifest")))
	m.Command = []string{"sum", "-v"}
	m.Inputs = []CID{RawCID([]byte("input"))}
	m.Resources.GPUClass = ptr(uint32(7))
	m.Verification = Verification{Method: CustomReplicas, Replicas: 3}
	m.SubmitterSignature = Bytes{1, 2, 200}
	m.AllowedEndpoints = []string{"https://example.org"}
	m.ConfidentialityLevel = ptr("Public")
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name + ".hex"
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		diagnosed, err := cbor.Diagnose(got)
		t.Errorf("%s: other bytes than the golden ones: %x\n%s %v", name, got, diagnosed, err)
	}
}

func TestMessagesHaveTheGoldenBytesAndComeBack(t *testing.T) {
	for _, v := range Versions {
		for name, r := range map[string]TaskDispatchRequest{
			"request-small": NewRequest("t", "noop", []byte{0}, nil),
			"request-full":  fullRequest(),
		} {
			data, err := v.EncodeRequest(r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+suffix[v], data)
			back, err := v.DecodeRequest(data)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := v.EncodeRequest(back); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s came back as %x, %v", name, again, err)
			}
		}
		for name, r := range map[string]TaskDispatchResponse{
			"response-succeeded": {TaskID: "t", Status: Succeeded, Output: []byte{0, 23, 24, 255}, DurationMS: 1234},
			"response-failed":    {TaskID: "t", Status: TaskFailed, OutputCID: ptr("bafkrei"), Error: ptr("trap: unreachable")},
		} {
			data, err := v.EncodeResponse(r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+suffix[v], data)
			back, err := v.DecodeResponse(data)
			if r.Output == nil {
				r.Output = Bytes{}
			}
			if err != nil || !reflect.DeepEqual(back, r) {
				t.Errorf("%s came back as %+v, %v", name, back, err)
			}
		}
	}
}

// suffix of the files with golden bytes.
var suffix = map[Version]string{V11: "-1.1"}

func TestTheVersionsDifferInHowTheyWriteDataAndInNothingElse(t *testing.T) {
	r := fullRequest()
	old, err1 := V10.EncodeRequest(r)
	large, err2 := V11.EncodeRequest(r)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, in := range r.InlineInputs {
		old = bytes.Replace(old, rustVec(string(in.Data)), rustBytes(in.Data), 1)
	}
	if !bytes.Equal(old, large) {
		t.Errorf("request\n%x, and with byte strings\n%x", large, old)
	}
	a := TaskDispatchResponse{TaskID: "t", Status: Succeeded, Output: []byte{0, 23, 24, 255}, DurationMS: 1234, Error: ptr("x")}
	old, err1 = V10.EncodeResponse(a)
	large, err2 = V11.EncodeResponse(a)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if old = bytes.Replace(old, rustVec(string(a.Output)), rustBytes(a.Output), 1); !bytes.Equal(old, large) {
		t.Errorf("response\n%x, and with byte strings\n%x", large, old)
	}
}

func TestTheVersionsHaveProtocolsOfTheirOwn(t *testing.T) {
	for v, want := range map[Version]string{V10: "/worldcompute/dispatch/1.0.0", V11: "/worldcompute/dispatch/1.1.0"} {
		if got := v.Protocol(); got != want {
			t.Errorf("%d: %s, want %s", v, got, want)
		}
	}
}

func TestALargeJobIsReadWithoutManyCopies(t *testing.T) {
	const size = 16 << 20
	data, err := V11.EncodeRequest(NewRequest("t", "large", make([]byte, size-512), make([]byte, size-512)))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := V11.DecodeRequest(data)
	runtime.ReadMemStats(&after)
	if in, _ := r.Input(StdinInput); err != nil || len(in) != size-512 {
		t.Fatalf("%d bytes of input: %v", len(in), err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 3*size {
		t.Errorf("reading %d bytes allocated %d", len(data), took)
	}
}

func TestFieldsAreInTheOrderOfTheRustStructs(t *testing.T) {
	data, err := V10.EncodeRequest(fullRequest())
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, key := range []string{"task_id", "manifest", "manifest_cid", "name", "workload_type", "workload_cid", "command", "inputs", "output_sink",
		"resources", "cpu_millicores", "ram_bytes", "gpu_class", "gpu_vram_bytes", "scratch_bytes", "network_egress_bytes", "walltime_budget_ms",
		"category", "confidentiality", "verification", "acceptable_use_classes", "max_wallclock_ms", "submitter_signature", "allowed_endpoints",
		"confidentiality_level", "inline_inputs"} {
		i := bytes.Index(data[at:], appendText(nil, key))
		if i < 0 {
			t.Fatalf("%s is missing or out of order", key)
		}
		at += i
	}
}

// What follows writes CBOR as Rust's serde does, without the code under test.

func appendText(to []byte, s string) []byte {
	return append(appendHead(to, majorText, uint64(len(s))), s...)
}

type pair struct {
	key   string
	value []byte
}

func rustMap(pairs ...pair) []byte {
	out := appendHead(nil, majorMap, uint64(len(pairs)))
	for _, p := range pairs {
		out = append(appendText(out, p.key), p.value...)
	}
	return out
}

func rustText(s string) []byte { return appendText(nil, s) }
func rustUint(n uint64) []byte { return appendHead(nil, majorUint, n) }

func rustArray(items ...[]byte) []byte {
	return append(appendHead(nil, majorArray, uint64(len(items))), slices.Concat(items...)...)
}

func rustVec(b string) []byte {
	var items [][]byte
	for i := range len(b) {
		items = append(items, rustUint(uint64(b[i])))
	}
	return rustArray(items...)
}

func rustBytes(b []byte) []byte { return append(appendHead(nil, majorBytes, uint64(len(b))), b...) }

var null = []byte{0xf6}

func rustResources() []byte {
	return rustMap(pair{"cpu_millicores", rustUint(1000)}, pair{"ram_bytes", rustUint(512 << 20)}, pair{"gpu_class", null},
		pair{"gpu_vram_bytes", rustUint(0)}, pair{"scratch_bytes", rustUint(1 << 30)}, pair{"network_egress_bytes", rustUint(0)},
		pair{"walltime_budget_ms", rustUint(3_600_000)})
}

func rustManifest() []pair {
	return []pair{
		{"manifest_cid", null}, {"name", rustText("test-job")}, {"workload_type", rustText("WasmModule")},
		{"workload_cid", rustBytes(RawCID([]byte("mod")).Bytes())}, {"command", rustArray(rustText("run"))}, {"inputs", rustArray()},
		{"output_sink", rustText("cid-store")}, {"resources", rustResources()}, {"category", rustText("PublicGood")},
		{"confidentiality", rustText("Public")}, {"verification", rustText("ReplicatedQuorum")},
		{"acceptable_use_classes", rustArray(rustText("Scientific"))}, {"max_wallclock_ms", rustUint(60_000)},
		{"submitter_signature", rustVec(strings.Repeat("\x00", 64))},
	}
}

// with sets a key; nil takes it away.
func with(pairs []pair, key string, value []byte) []pair {
	out := slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return p.key == key })
	if value != nil {
		out = append(out, pair{key, value})
	}
	return out
}

func rustRequest(manifest []pair) []pair {
	return []pair{
		{"task_id", rustText("task-7")}, {"manifest", rustMap(manifest...)},
		{"inline_inputs", rustArray(rustArray(rustText("workload"), rustVec("mod")), rustArray(rustText("stdin"), rustVec("\xff\x00")))},
	}
}

func TestARequestFromARustPeerIsRead(t *testing.T) {
	r, err := V10.DecodeRequest(rustMap(rustRequest(rustManifest())...))
	if err != nil {
		t.Fatal(err)
	}
	module, err := r.Workload()
	if err != nil || string(module) != "mod" {
		t.Errorf("workload %q, %v", module, err)
	}
	if stdin, ok := r.Input(StdinInput); !ok || string(stdin) != "\xff\x00" {
		t.Errorf("stdin %q", stdin)
	}
	if r.TaskID != "task-7" || r.Walltime() != time.Minute || r.Manifest.Resources.RAMBytes != 512<<20 || len(r.Manifest.SubmitterSignature) != 64 ||
		r.Manifest.Verification.Method != ReplicatedQuorum || r.Manifest.ManifestCID != nil {
		t.Errorf("%+v", r)
	}
}

func TestOtherWaysToSayTheSameAreRead(t *testing.T) {
	m := rustManifest()
	cidOf := func(c CID) []byte { return append([]byte{0xd8, 42}, rustBytes(append([]byte{0}, c.Bytes()...))...) }
	indefinite := func(b ...byte) []byte { return append(append([]byte{0x9f}, b...), 0xff) }
	input := func(data []byte) []pair {
		return with(rustRequest(m), "inline_inputs", rustArray(rustArray(rustText("workload"), data)))
	}
	for what, message := range map[string][]pair{
		"a CID under tag 42":               rustRequest(with(m, "workload_cid", cidOf(RawCID([]byte("mod"))))),
		"bytes as a byte string":           input(rustBytes([]byte("mod"))),
		"bytes as an indefinite array":     input(indefinite(0x18, 'm', 0x18, 'o', 0x18, 'd')),
		"bytes as wide integers":           input(rustArray([]byte{0x19, 0, 'm'}, []byte{0x1a, 0, 0, 0, 'o'}, []byte{0x18, 'd'})),
		"an indefinite byte string":        input([]byte{0x5f, 0x41, 'm', 0x42, 'o', 'd', 0xff}),
		"unknown fields":                   rustRequest(append(slices.Clone(m), pair{"priority", rustMap(pair{"x", null})})),
		"options that are absent":          rustRequest(with(m, "manifest_cid", nil)),
		"options that are null":            rustRequest(append(slices.Clone(m), pair{"allowed_endpoints", null}, pair{"confidentiality_level", null})),
		"options that are there":           rustRequest(append(slices.Clone(m), pair{"allowed_endpoints", rustArray(rustText("a"))}, pair{"confidentiality_level", rustText("b")})),
		"fields in another order":          {rustRequest(m)[2], rustRequest(m)[0], rustRequest(m)[1]},
		"a verification that has a number": rustRequest(with(m, "verification", rustMap(pair{"CustomReplicas", rustUint(5)}))),
	} {
		r, err := V10.DecodeRequest(rustMap(message...))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if module, err := r.Workload(); err != nil || string(module) != "mod" {
			t.Errorf("%s: workload %q, %v", what, module, err)
		}
	}
}

func TestAMalformedRequestIsRefusedAndItsFieldNamed(t *testing.T) {
	m := rustManifest()
	manifest := func(key string, value []byte) []byte { return rustMap(rustRequest(with(m, key, value))...) }
	request := func(key string, value []byte) []byte { return rustMap(with(rustRequest(m), key, value)...) }
	inputs := func(items ...[]byte) []byte { return request("inline_inputs", rustArray(items...)) }
	good := rustMap(rustRequest(m)...)
	for want, data := range map[string][]byte{
		"it is empty":                          nil,
		"want a map":                           null,
		"request: want a map":                  rustArray(),
		"unexpected EOF":                       good[:len(good)-1],
		"extraneous data":                      append(slices.Clone(good), 0),
		"task_id is missing":                   request("task_id", nil),
		"task_id is null":                      request("task_id", null),
		"task_id is empty":                     request("task_id", rustText("")),
		"task_id: cbor":                        request("task_id", rustUint(1)),
		"task_id has 129 bytes, at most 128":   request("task_id", rustText(strings.Repeat("t", MaxTaskID+1))),
		"inline_inputs: more than 64 elements": inputs(slices.Repeat([][]byte{rustArray(rustText("a"), rustVec("b"))}, MaxInlineInputs+1)...),
		"command: more than 1024 elements":     manifest("command", rustArray(slices.Repeat([][]byte{rustText("a")}, MaxElements+1)...)),
		"inputs: more than 1024 elements":      manifest("inputs", slices.Concat([]byte{0x9f}, bytes.Repeat(rustBytes(RawCID(nil).Bytes()), MaxElements+1), []byte{0xff})),
		"exceeded max number of key-value pairs": append(slices.Concat(appendHead(nil, majorMap, MaxElements+1)),
			bytes.Repeat([]byte{0x61, 'x', 0}, MaxElements+1)...),
		"task_id is there twice":                                          rustMap(append(rustRequest(m), pair{"task_id", rustText("b")})...),
		"manifest: want a map":                                            request("manifest", rustText("x")),
		"manifest: command: want an array":                                manifest("command", rustText("x")),
		"manifest: command: element 0 is null":                            manifest("command", rustArray(null)),
		"manifest: inputs: element 0: CID":                                manifest("inputs", rustArray(rustVec("abc"))),
		"manifest: workload_cid: CID: want tag 42, have tag 41":           manifest("workload_cid", append([]byte{0xd8, 41}, rustBytes([]byte{0})...)),
		"manifest: workload_cid: CID: the zero byte":                      manifest("workload_cid", append([]byte{0xd8, 42}, rustBytes([]byte{1})...)),
		"manifest: workload_cid: CID: want a byte string under":           manifest("workload_cid", []byte{0xd8, 42, 0}),
		"manifest: workload_cid is null":                                  manifest("workload_cid", null),
		"manifest: workload_cid: CID: invalid":                            manifest("workload_cid", rustBytes([]byte("no"))),
		`manifest: workload_type: "Docker" is none of`:                    manifest("workload_type", rustText("Docker")),
		"manifest: workload_type: want a text":                            manifest("workload_type", rustUint(0)),
		`manifest: category: "" is none of`:                               manifest("category", rustText("")),
		"manifest: confidentiality: want a text":                          manifest("confidentiality", rustMap()),
		"manifest: acceptable_use_classes: element 1":                     manifest("acceptable_use_classes", rustArray(rustText("Indexing"), rustText("Mining"))),
		`manifest: verification: "CustomReplicas" is none of`:             manifest("verification", rustText("CustomReplicas")),
		"manifest: verification: want":                                    manifest("verification", rustMap(pair{"CustomReplicas", null})),
		"manifest: resources: ram_bytes is missing":                       manifest("resources", rustMap(with([]pair{{"cpu_millicores", rustUint(1)}}, "x", null)...)),
		"manifest: max_wallclock_ms: cbor":                                manifest("max_wallclock_ms", []byte{0x20}),
		"manifest: submitter_signature: array of bytes: element 1 is not": manifest("submitter_signature", rustArray(rustUint(1), rustUint(256))),
		"manifest: submitter_signature: array of bytes: element 0 is not": manifest("submitter_signature", rustArray([]byte{0x20})),
		"manifest: submitter_signature: want an array of bytes":           manifest("submitter_signature", rustText("x")),
		"inline_inputs: element 0: want an array of a name and bytes":     inputs(rustArray(rustText("workload"))),
		"inline_inputs: element 0: the name is not a text":                inputs(rustArray(rustVec("x"), rustVec("x"))),
		"inline_inputs: element 1 is null":                                inputs(rustArray(rustText("a"), rustVec("b")), null),
	} {
		if _, err := V10.DecodeRequest(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestWhatIsWithinTheBoundsIsRead(t *testing.T) {
	r := fullRequest()
	r.TaskID = strings.Repeat("t", MaxTaskID)
	r.Manifest.Command = slices.Repeat([]string{"a"}, MaxElements)
	for len(r.InlineInputs) < MaxInlineInputs {
		r.InlineInputs = append(r.InlineInputs, Input{Name: "more"})
	}
	data, err := V10.EncodeRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := V10.DecodeRequest(data); err != nil || len(back.Manifest.Command) != MaxElements || len(back.InlineInputs) != MaxInlineInputs {
		t.Errorf("%v", err)
	}
	r.TaskID += "t"
	if _, err := V10.EncodeRequest(r); err == nil || !strings.Contains(err.Error(), "task_id") {
		t.Errorf("a task ID that donors refuse: %v", err)
	}
}

func TestAMalformedResponseIsRefused(t *testing.T) {
	good := []pair{{"task_id", rustText("t")}, {"status", rustText("Preempted")}, {"output", rustVec("a")}, {"output_cid", null}, {"duration_ms", rustUint(1)}, {"error", null}}
	if r, err := V10.DecodeResponse(rustMap(good...)); err != nil || r.Status != Preempted || string(r.Output) != "a" {
		t.Errorf("%+v %v", r, err)
	}
	for want, data := range map[string][]byte{
		`status: "Running" is none of`: rustMap(with(good, "status", rustText("Running"))...),
		"status is missing":            rustMap(with(good, "status", nil)...),
		"output is null":               rustMap(with(good, "output", null)...),
		"error: cbor":                  rustMap(with(good, "error", rustUint(1))...),
		"task_id has 129 bytes":        rustMap(with(good, "task_id", rustText(strings.Repeat("t", MaxTaskID+1)))...),
	} {
		if _, err := V10.DecodeResponse(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestMessagesOverTheLimitAreRefusedOnBothSides(t *testing.T) {
	for _, v := range Versions {
		if _, err := v.EncodeRequest(NewRequest("t", "big", make([]byte, v.MaxRequest()), nil)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("encode request: %v", err)
		}
		if _, err := v.EncodeRequest(NewRequest("t", "big", make([]byte, v.MaxRequest()+1), nil)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("encode request: %v", err)
		}
		if _, err := v.DecodeRequest(make([]byte, v.MaxRequest()+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("decode request: %v", err)
		}
		if _, err := v.DecodeResponse(make([]byte, v.MaxResponse()+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("decode response: %v", err)
		}
		output := bytes.Repeat([]byte{255}, v.MaxOutput())
		long := TaskDispatchResponse{TaskID: strings.Repeat("t", 100), Status: TaskFailed, Output: output, Error: ptr(strings.Repeat("é", MaxError))}
		data, err := v.EncodeResponse(long)
		if err != nil {
			t.Fatalf("the longest output does not fit: %v", err)
		}
		back, err := v.DecodeResponse(data)
		if err != nil || !bytes.Equal(back.Output, output) || len(*back.Error) != MaxError {
			t.Errorf("the longest output does not come back: %v", err)
		}
		long.Output = append(output, make([]byte, responseEnvelope*600)...)
		if _, err := v.EncodeResponse(long); !errors.Is(err, ErrTooLarge) {
			t.Errorf("encode response: %v", err)
		}
	}
}

func TestAWorkloadIsWhatTheManifestNames(t *testing.T) {
	for want, change := range map[string]func(*TaskDispatchRequest){
		"no inline input":  func(r *TaskDispatchRequest) { r.InlineInputs = nil },
		"OciContainer is":  func(r *TaskDispatchRequest) { r.Manifest.WorkloadType = OciContainer },
		"the data is bafk": func(r *TaskDispatchRequest) { r.InlineInputs[0].Data = []byte("other") },
		"the CID is empty": func(r *TaskDispatchRequest) { r.Manifest.WorkloadCID = CID{} },
	} {
		r := NewRequest("t", "n", []byte("module"), nil)
		if _, err := r.Workload(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		if _, err := r.Workload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestTheShorterWallTimeCounts(t *testing.T) {
	for _, test := range []struct {
		wallclock, budget uint64
		want              time.Duration
	}{{0, 0, 0}, {1000, 0, time.Second}, {0, 1000, time.Second}, {1000, 2000, time.Second}, {2000, 1000, time.Second}, {1 << 63, 1 << 63, 1<<63 - 1}} {
		r := TaskDispatchRequest{Manifest: Manifest{MaxWallclockMS: test.wallclock, Resources: Resources{WalltimeBudgetMS: test.budget}}}
		if got := r.Walltime(); got.Truncate(time.Second) != test.want.Truncate(time.Second) {
			t.Errorf("%d and %d: %s, want %s", test.wallclock, test.budget, got, test.want)
		}
	}
}

func seeds(f *testing.F) {
	for _, v := range Versions {
		full, err1 := v.EncodeRequest(fullRequest())
		response, err2 := v.EncodeResponse(TaskDispatchResponse{TaskID: "t", Status: Timeout, Output: []byte{1, 200}, Error: ptr("x")})
		if err := errors.Join(err1, err2); err != nil {
			f.Fatal(err)
		}
		f.Add(full)
		f.Add(response)
	}
	for _, seed := range [][]byte{rustMap(rustRequest(rustManifest())...), null, {0x9f}, {0xbf, 0xff}, {0xd8, 42}} {
		f.Add(seed)
	}
}

// What a version reads, it writes so that the same comes back.
func FuzzDecodeRequest(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range Versions {
			r, err := v.DecodeRequest(data)
			if err != nil {
				return
			}
			_, _ = r.Workload()
			again, err := v.EncodeRequest(r)
			if v == V10 && errors.Is(err, ErrTooLarge) {
				return // it came with byte strings
			}
			back, err2 := v.DecodeRequest(again)
			if err != nil || err2 != nil || back.TaskID != r.TaskID || back.Walltime() != r.Walltime() || !slices.EqualFunc(back.InlineInputs, r.InlineInputs, sameInput) {
				t.Errorf("%+v is not what comes back: %+v, %v, %v", r, back, err, err2)
			}
		}
	})
}

func sameInput(a, b Input) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }

func FuzzDecodeResponse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range Versions {
			r, err := v.DecodeResponse(data)
			if err != nil {
				return
			}
			again, err := v.EncodeResponse(r)
			if v == V10 && errors.Is(err, ErrTooLarge) {
				return
			}
			back, err2 := v.DecodeResponse(again)
			if err != nil || err2 != nil || !bytes.Equal(back.Output, r.Output) || back.Status != r.Status {
				t.Errorf("%+v is not what comes back: %+v, %v, %v", r, back, err, err2)
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	for name, size := range map[string]int{"500B": 500, "32KiB": 32 << 10} {
		b.Run(name, func(b *testing.B) {
			r := NewRequest("task", "noop", bytes.Repeat([]byte{1, 200}, size/2), []byte("nonce"))
			for b.Loop() {
				data, err := V10.EncodeRequest(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := V10.DecodeRequest(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
