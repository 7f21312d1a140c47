package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The major types of CBOR (RFC 8949, section 3.1), as the top bits of the first byte.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

func major(data []byte) int {
	if len(data) == 0 {
		return -1
	}
	return int(data[0] >> 5)
}

// isNull tells null and undefined (RFC 8949, section 3.3).
func isNull(data []byte) bool {
	return len(data) == 1 && (data[0] == 0xf6 || data[0] == 0xf7)
}

// Bytes is Rust's Vec<u8> as serde sees it: an array of integers. It is read
// from byte strings as well. Nil is the empty array.
type Bytes []byte

// MarshalCBOR implements cbor.Marshaler.
func (b Bytes) MarshalCBOR() ([]byte, error) {
	out := appendHead(make([]byte, 0, 9+2*len(b)), majorArray, uint64(len(b)))
	for _, v := range b {
		if v < 24 {
			out = append(out, v)
		} else {
			out = append(out, 24, v)
		}
	}
	return out, nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (b *Bytes) UnmarshalCBOR(data []byte) error {
	switch major(data) {
	case majorBytes:
		var raw []byte
		if err := decMode.Unmarshal(data, &raw); err != nil {
			return err
		}
		*b = raw
		return nil
	case majorArray:
		out, err := integers(data)
		*b = out
		return err
	default:
		return errors.New("want an array of bytes or a byte string")
	}
}

// integers reads an array of integers from 0 to 255, of definite or indefinite length.
func integers(data []byte) ([]byte, error) {
	var out []byte
	n := ^uint64(0) // elements that follow
	if indefinite := data[0] == 0x9f; indefinite {
		data = data[1:]
	} else {
		var ok bool
		if n, data, ok = cutHead(data, majorArray); !ok {
			return nil, errors.New("array of bytes: malformed length")
		}
		out = make([]byte, 0, min(n, uint64(len(data))))
	}
	for i := uint64(0); i < n; i++ {
		if n == ^uint64(0) && len(data) > 0 && data[0] == 0xff { // break
			return out, nil
		}
		v, rest, ok := cutHead(data, majorUint)
		if !ok || v > 255 {
			return nil, fmt.Errorf("array of bytes: element %d is not an integer from 0 to 255", i)
		}
		out, data = append(out, byte(v)), rest
	}
	return out, nil
}

// cutHead takes the first byte and argument of a data item of that major type.
func cutHead(data []byte, want int) (arg uint64, rest []byte, ok bool) {
	if major(data) != want {
		return 0, nil, false
	}
	info := data[0] & 0x1f
	data = data[1:]
	if info < 24 {
		return uint64(info), data, true
	}
	size := 1 << (info - 24)
	if info > 27 || len(data) < size {
		return 0, nil, false
	}
	var buf [8]byte
	copy(buf[8-size:], data)
	return binary.BigEndian.Uint64(buf[:]), data[size:], true
}

// appendHead writes the first byte and argument of a data item in the shortest form.
func appendHead(to []byte, major byte, arg uint64) []byte {
	switch major <<= 5; {
	case arg < 24:
		return append(to, major|byte(arg))
	case arg < 1<<8:
		return append(to, major|24, byte(arg))
	case arg < 1<<16:
		return binary.BigEndian.AppendUint16(append(to, major|25), uint16(arg))
	case arg < 1<<32:
		return binary.BigEndian.AppendUint32(append(to, major|26), uint32(arg))
	default:
		return binary.BigEndian.AppendUint64(append(to, major|27), arg)
	}
}
