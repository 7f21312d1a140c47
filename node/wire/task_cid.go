package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// cidTag is the CBOR tag of a CID (registered with IANA; its content is a zero
// byte and the CID).
const cidTag = 42

// CID names content by its hash (https://github.com/multiformats/cid). It is
// written as a byte string, as Rust's cid does outside DAG-CBOR, and read as a
// byte string or under tag 42. The zero CID cannot be encoded.
type CID struct{ cid.Cid }

// RawCID is the CID of data as World Compute computes it: version 1, raw, SHA-256.
func RawCID(data []byte) CID {
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256, MhLength: -1}.Sum(data)
	if err != nil {
		return CID{} // not reached: SHA-256 is always there
	}
	return CID{c}
}

// Verify tells whether data is what the CID names.
func (c CID) Verify(data []byte) error {
	if !c.Defined() {
		return errors.New("the CID is empty")
	}
	got, err := c.Prefix().Sum(data)
	if err != nil {
		return fmt.Errorf("hash as %s asks: %w", c, err)
	}
	if !got.Equals(c.Cid) {
		return fmt.Errorf("the data is %s, not %s", got, c)
	}
	return nil
}

// MarshalCBOR implements cbor.Marshaler.
func (c CID) MarshalCBOR() ([]byte, error) {
	if !c.Defined() {
		return nil, errors.New("encode CID: it is empty")
	}
	return encMode.Marshal(c.Bytes())
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (c *CID) UnmarshalCBOR(data []byte) error {
	raw, err := cidBytes(data)
	if err != nil {
		return err
	}
	parsed, err := cid.Cast(raw)
	if err != nil {
		return fmt.Errorf("CID: %w", err)
	}
	*c = CID{parsed}
	return nil
}

// cidBytes takes the binary CID out of its two encodings.
func cidBytes(data []byte) ([]byte, error) {
	var raw []byte
	if major(data) == majorTag {
		var tag cbor.RawTag
		if err := decMode.Unmarshal(data, &tag); err != nil {
			return nil, fmt.Errorf("CID: %w", err)
		}
		if tag.Number != cidTag {
			return nil, fmt.Errorf("CID: want tag %d, have tag %d", cidTag, tag.Number)
		}
		if major(tag.Content) != majorBytes {
			return nil, errors.New("CID: want a byte string under the tag")
		}
		if err := decMode.Unmarshal(tag.Content, &raw); err != nil {
			return nil, fmt.Errorf("CID: %w", err)
		}
		raw, ok := bytes.CutPrefix(raw, []byte{0})
		if !ok {
			return nil, errors.New("CID: the zero byte is missing under the tag")
		}
		return raw, nil
	}
	if major(data) != majorBytes {
		return nil, errors.New("CID: want a byte string or tag 42")
	}
	if err := decMode.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("CID: %w", err)
	}
	return raw, nil
}
