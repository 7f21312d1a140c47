package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

var (
	encMode = must(cbor.EncOptions{NilContainers: cbor.NilContainerAsEmpty}.EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements: MaxLargeResponse, // an array of bytes has at most as many as the message
		MaxMapPairs:      MaxElements,
	}.DecMode())
)

// must is for options that are constants of this file: they fail always or never.
func must[T any](mode T, err error) T {
	if err != nil {
		panic(err)
	}
	return mode
}

// EncodeRequest encodes a request. It fails with ErrTooLarge over MaxRequest,
// and where a donor would refuse the task ID.
func (v Version) EncodeRequest(r TaskDispatchRequest) ([]byte, error) {
	if err := checkTaskID(r.TaskID); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	// The data alone takes as much: no need to encode it to see that.
	if n := r.dataBytes(); n > v.MaxRequest() {
		return nil, fmt.Errorf("encode request: %w: more than %d bytes, at most %d", ErrTooLarge, n, v.MaxRequest())
	}
	if v == V11 {
		return encode("request", r.v11(), v.MaxRequest())
	}
	return encode("request", r, v.MaxRequest())
}

// DecodeRequest decodes a request. It fails with ErrTooLarge over MaxRequest,
// and names the field where the message is malformed.
func (v Version) DecodeRequest(data []byte) (TaskDispatchRequest, error) {
	return decode[TaskDispatchRequest]("request", data, v.MaxRequest())
}

// EncodeResponse encodes a response, cutting its Error to MaxError. It fails
// with ErrTooLarge over MaxResponse; an Output within MaxOutput always fits.
func (v Version) EncodeResponse(r TaskDispatchResponse) ([]byte, error) {
	if r.Error != nil && len(*r.Error) > MaxError {
		cut := strings.ToValidUTF8((*r.Error)[:MaxError], "")
		r.Error = &cut
	}
	if v == V11 {
		return encode("response", r.v11(), v.MaxResponse())
	}
	return encode("response", r, v.MaxResponse())
}

// DecodeResponse decodes a response. It fails as DecodeRequest does, over MaxResponse.
func (v Version) DecodeResponse(data []byte) (TaskDispatchResponse, error) {
	return decode[TaskDispatchResponse]("response", data, v.MaxResponse())
}

// request11 is a TaskDispatchRequest as V11 writes it.
type request11 struct {
	TaskID       string    `cbor:"task_id"`
	Manifest     Manifest  `cbor:"manifest"`
	InlineInputs []input11 `cbor:"inline_inputs"`
}

type input11 struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Data []byte
}

// response11 is a TaskDispatchResponse as V11 writes it.
type response11 struct {
	TaskID     string     `cbor:"task_id"`
	Status     TaskStatus `cbor:"status"`
	Output     []byte     `cbor:"output"`
	OutputCID  *string    `cbor:"output_cid"`
	DurationMS uint64     `cbor:"duration_ms"`
	Error      *string    `cbor:"error"`
}

func (r TaskDispatchRequest) v11() request11 {
	out := request11{TaskID: r.TaskID, Manifest: r.Manifest, InlineInputs: make([]input11, len(r.InlineInputs))}
	for i, in := range r.InlineInputs {
		out.InlineInputs[i] = input11{Name: in.Name, Data: in.Data}
	}
	return out
}

func (r TaskDispatchResponse) v11() response11 {
	return response11{r.TaskID, r.Status, r.Output, r.OutputCID, r.DurationMS, r.Error}
}

// dataBytes is how much data the inline inputs hold.
func (r TaskDispatchRequest) dataBytes() int {
	n := 0
	for _, in := range r.InlineInputs {
		n += len(in.Data)
	}
	return n
}

func encode(what string, message any, limit int) ([]byte, error) {
	data, err := encMode.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("encode %s: %w: %d bytes, at most %d", what, ErrTooLarge, len(data), limit)
	}
	return data, nil
}

func decode[T any](what string, data []byte, limit int) (message T, err error) {
	if len(data) > limit {
		return message, fmt.Errorf("decode %s: %w: at least %d bytes, at most %d", what, ErrTooLarge, len(data), limit)
	}
	if len(data) == 0 {
		return message, fmt.Errorf("decode %s: it is empty", what)
	}
	if err = decMode.Unmarshal(data, &message); err != nil {
		return *new(T), fmt.Errorf("decode %s: %w", what, err)
	}
	return message, nil
}

// field is one field of a struct on the wire.
type field struct {
	name     string
	into     any  // pointer, or cbor.Unmarshaler
	optional bool // may be absent or null; else it is there
}

// decodeFields reads a map with text keys into fields, and ignores other keys.
func decodeFields(data []byte, fields ...field) error {
	if major(data) != majorMap {
		return errors.New("want a map")
	}
	raw, err := pairs(data)
	if err != nil {
		return err
	}
	for _, f := range fields {
		value, ok := raw[f.name]
		switch {
		case !ok && f.optional, ok && f.optional && isNull(value):
			continue
		case !ok:
			return fmt.Errorf("%s is missing", f.name)
		case isNull(value):
			return fmt.Errorf("%s is null", f.name)
		}
		if err := decodeItem(value, f.into); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// decodeItem reads one data item, well-formed already.
func decodeItem(data []byte, into any) error {
	if u, ok := into.(cbor.Unmarshaler); ok {
		return u.UnmarshalCBOR(data)
	}
	return decMode.Unmarshal(data, into)
}

// listOf reads an array of at most so many elements, none of them null.
type listOf[T any] struct {
	into *[]T
	most int
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (l listOf[T]) UnmarshalCBOR(data []byte) error {
	if major(data) != majorArray {
		return errors.New("want an array")
	}
	raw, err := elements(data, l.most)
	if err != nil {
		return err
	}
	out := make([]T, len(raw))
	for i, value := range raw {
		if isNull(value) {
			return fmt.Errorf("element %d is null", i)
		}
		if err := decodeItem(value, &out[i]); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	*l.into = out
	return nil
}

// skipped is a data item that is looked at elsewhere, in place: a large message
// is not copied once for every level of it.
type skipped struct{}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (skipped) UnmarshalCBOR([]byte) error { return nil }

// cut takes the first data item, which becomes a part of data's memory.
func cut(data []byte) (item, rest []byte, err error) {
	rest, err = decMode.UnmarshalFirst(data, &skipped{})
	return data[:len(data)-len(rest)], rest, err
}

// items cuts an array or a map, well-formed already, into the data items in it,
// keys and values in turn, and calls each until that fails.
func items(data []byte, each func(item []byte) error) error {
	n, rest, definite := cutHead(data, major(data))
	if !definite {
		rest = data[1:]
	} else if major(data) == majorMap {
		n *= 2 // no overflow: they are all there
	}
	for i := uint64(0); definite && i < n || !definite && rest[0] != 0xff; i++ {
		item, after, err := cut(rest)
		if err == nil {
			err = each(item)
		}
		if err != nil {
			return err
		}
		rest = after
	}
	return nil
}

// elements cuts an array, well-formed already, into at most so many pieces.
func elements(data []byte, most int) (out [][]byte, err error) {
	err = items(data, func(item []byte) error {
		if len(out) == most {
			return fmt.Errorf("more than %d elements", most)
		}
		out = append(out, item)
		return nil
	})
	return out, err
}

// pairs cuts a map with text keys, well-formed already, into its values.
func pairs(data []byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	var key []byte
	return out, items(data, func(item []byte) error {
		if key == nil {
			key = item
			return nil
		}
		var name string
		if err := text(key, &name); err != nil {
			return fmt.Errorf("a key: %w", err)
		}
		if _, twice := out[name]; twice {
			return fmt.Errorf("%s is there twice", name)
		}
		out[name], key = item, nil
		return nil
	})
}

// enum reads a text that is one of a closed set of names.
type enum[T ~string] struct {
	into  *T
	names []T
}

func enumOf[T ~string](into *T, names ...T) enum[T] { return enum[T]{into, names} }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (e enum[T]) UnmarshalCBOR(data []byte) error {
	var name T
	if err := text(data, &name); err != nil {
		return err
	}
	if err := oneOf(name, e.names...); err != nil {
		return err
	}
	*e.into = name
	return nil
}

func text[T ~string](data []byte, into *T) error {
	if major(data) != majorText {
		return errors.New("want a text")
	}
	return decMode.Unmarshal(data, into)
}

func oneOf[T ~string](name T, names ...T) error {
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("%q is none of %q", name, names)
}
