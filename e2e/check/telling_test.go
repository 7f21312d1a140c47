package check

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// input tells the story: events are numbered, hashed and logged as they now are.
func (s *story) input(t testing.TB) Input {
	t.Helper()
	in := Input{Logs: map[string][]byte{}, Problems: s.problems, Answers: s.answers}
	number := map[string]uint64{}
	raw := map[string]*bytes.Buffer{}
	logs := map[string]*bytes.Buffer{}
	for _, it := range s.items {
		if e, ok := it.data.(*wire.Event); ok {
			number[it.host+e.Boot]++
			if !s.rawSeq {
				e.Seq = number[it.host+e.Boot]
			}
			if raw[it.host] == nil {
				raw[it.host], logs[it.host] = new(bytes.Buffer), new(bytes.Buffer)
			}
			raw[it.host].Write(append(encode(t, e), '\n'))
			logEvent(logs[it.host], e)
		}
	}
	for h, text := range logs {
		if own, ok := s.logs[h]; ok {
			in.Logs[h] = []byte(own)
		} else if !s.noLog[h] {
			in.Logs[h] = text.Bytes()
		}
	}
	for i, it := range s.items {
		data := it.data
		switch d := data.(type) {
		case *evidence.LogFile:
			data = s.hashed(it, *d, raw, in.Logs)
		case *evidence.Probe:
			p := *d
			p.Result = encode(t, it.result)
			data = &p
		case *evidence.Job:
			j := *d
			j.Result = encode(t, it.result)
			data = &j
		}
		in.Events = append(in.Events, evidence.Event{TS: it.at, Seq: uint64(i + 1), Name: it.name, Host: it.host, Data: encode(t, data)})
	}
	return in
}

func (s *story) hashed(it *item, f evidence.LogFile, raw map[string]*bytes.Buffer, logs map[string][]byte) evidence.LogFile {
	change, content := s.tweak[it.host], logs[it.host]
	if it.name == evidence.EventsHashed {
		change, content = s.hashes[it.host], nil
		if b := raw[it.host]; b != nil {
			content = b.Bytes()
		}
	}
	f.SHA256, f.Size, f.Kept = sha(string(content)), int64(len(content)), int64(len(content))
	if change != nil {
		change(&f)
	}
	return f
}

func encode(t testing.TB, v any) json.RawMessage {
	t.Helper()
	if raw, ok := v.(json.RawMessage); ok {
		return raw
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// logEvent writes the readable line of an event, as a node does.
func logEvent(w *bytes.Buffer, e *wire.Event) {
	msg := string(e.Kind)
	if e.Kind == wire.ListenAddr {
		msg = "NewListenAddr(" + e.Addr + ")"
	}
	log := slog.New(slog.NewTextHandler(w, nil))
	log.Info(msg, "addr", e.Addr, "dial", e.Dial, "outcome", e.Outcome, "failure", e.Failure, "err", e.Err)
}
