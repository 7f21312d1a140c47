package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest line of a trace, in bytes, with its newline. A node's
// status with a thousand connections takes a tenth of it.
const MaxLine = 4 << 20

// firstPrev is the Prev of the first line.
var firstPrev = strings.Repeat("0", 2*sha256.Size)

// hashLine is what the next line names as its Prev.
func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// encodeLine gives the one form in which a trace holds e, without a newline.
// The line is put together by hand, because encoding/json compacts and escapes
// a RawMessage, and then the hash that a host computed of its events would no
// longer be the hash of what the trace holds.
func encodeLine(e Event) ([]byte, error) {
	head, err := marshal(struct {
		TS   time.Time `json:"ts"`
		Seq  uint64    `json:"seq"`
		Name Name      `json:"event"`
		Host string    `json:"host,omitempty"`
	}{e.TS, e.Seq, e.Name, e.Host})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(head[:len(head)-1])
	if len(e.Data) > 0 {
		b.WriteString(`,"data":`)
		b.Write(e.Data)
	}
	fmt.Fprintf(&b, `,"prev":"%s"}`, e.Prev)
	return b.Bytes(), nil
}

// decodeLine is the reverse of encodeLine. It refuses every line that
// encodeLine would not have written: two readers could otherwise find
// different things in it, in a key given twice, for example.
func decodeLine(line []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("not an event: %w", err)
	}
	again, err := encodeLine(e)
	if err != nil {
		return e, err
	}
	if !bytes.Equal(line, again) {
		return e, errors.New("not in the form that the writer gives a line")
	}
	return e, nil
}

// payload gives the bytes of an event's data. A json.RawMessage on one line is
// taken as it is, to the byte.
func payload(data any, scrub *Scrubber) (json.RawMessage, error) {
	switch raw := data.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return oneLine(raw)
	}
	b, err := marshal(data)
	if err != nil {
		return nil, err
	}
	return scrub.json(b), nil
}

func oneLine(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("not JSON: %.80q", raw)
	}
	trimmed := len(bytes.TrimSpace(raw)) == len(raw)
	if trimmed && !bytes.ContainsAny(raw, "\r\n") {
		return raw, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func checkItem(it Item) error {
	switch {
	case !known[it.Name]:
		return fmt.Errorf("unknown event name %q", it.Name)
	case !utf8.ValidString(it.Host):
		return fmt.Errorf("host %q is not UTF-8", it.Host)
	}
	return nil
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
