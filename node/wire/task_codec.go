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
		MaxArrayElements: MaxResponse, // an array of bytes has at most as many as the message
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
func EncodeRequest(r TaskDispatchRequest) ([]byte, error) {
	if err := checkTaskID(r.TaskID); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return encode("request", r, MaxRequest)
}

// DecodeRequest decodes a request. It fails with ErrTooLarge over MaxRequest,
// and names the field where the message is malformed.
func DecodeRequest(data []byte) (TaskDispatchRequest, error) {
	return decode[TaskDispatchRequest]("request", data, MaxRequest)
}

// EncodeResponse encodes a response, cutting its Error to MaxError. It fails
// with ErrTooLarge over MaxResponse; an Output within MaxOutput always fits.
func EncodeResponse(r TaskDispatchResponse) ([]byte, error) {
	if r.Error != nil && len(*r.Error) > MaxError {
		cut := strings.ToValidUTF8((*r.Error)[:MaxError], "")
		r.Error = &cut
	}
	return encode("response", r, MaxResponse)
}

// DecodeResponse decodes a response. It fails as DecodeRequest does, over MaxResponse.
func DecodeResponse(data []byte) (TaskDispatchResponse, error) {
	return decode[TaskDispatchResponse]("response", data, MaxResponse)
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
	var raw map[string]cbor.RawMessage
	if err := decMode.Unmarshal(data, &raw); err != nil {
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

// elements cuts an array, well-formed already, into at most so many pieces.
func elements(data []byte, most int) (out []cbor.RawMessage, err error) {
	n, rest, definite := cutHead(data, majorArray)
	if !definite {
		n, rest = ^uint64(0), data[1:]
	}
	for i := uint64(0); i < n && (definite || rest[0] != 0xff); i++ {
		if len(out) == most {
			return nil, fmt.Errorf("more than %d elements", most)
		}
		var value cbor.RawMessage
		if rest, err = decMode.UnmarshalFirst(rest, &value); err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
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
