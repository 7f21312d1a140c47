package wire

import "fmt"

// Version is a version of the task messages, which is a libp2p protocol of its
// own: the submitter opens a stream, writes one TaskDispatchRequest in CBOR and
// closes its writing side; the donor answers with one TaskDispatchResponse.
//
// Structs are maps with text keys in the order of the Rust structs, enums are
// their names, absent options are null. Unknown fields are ignored; a message
// that lacks a field, has one twice or of another type is malformed. The zero
// value is V10.
type Version int

const (
	// V10 is World Compute's own protocol, spoken by donors and submitters
	// outside this repository. Byte vectors are written as arrays of integers,
	// which is all that Rust's peers read (1.9 bytes for each byte), and read as
	// arrays of integers or as byte strings. Its limits are those of
	// libp2p-request-response's CBOR codec: a larger message cannot arrive.
	V10 Version = iota
	// V11 has the same messages, but for two fields that hold most of the bytes:
	// the data of an inline input and the output of a response are byte strings.
	// The manifest is the same, byte for byte, so that what signs it signs it in
	// both. Larger messages may arrive; what a donor takes of them is its own
	// affair, and it says what it does not.
	V11
)

// Versions are all of them, the one to prefer first: most peers speak it.
var Versions = []Version{V10, V11}

// Limits of V10 and V11, in bytes.
const (
	MaxRequest  = 1 << 20  // an encoded TaskDispatchRequest of V10
	MaxResponse = 10 << 20 // an encoded TaskDispatchResponse of V10

	MaxLargeRequest  = 32 << 20 // of V11: 16 MiB of module and as much of input
	MaxLargeResponse = 64 << 20 // of V11

	// MaxOutput is the longest output that surely fits a response of V10: an
	// encoded byte takes up to two, and responseEnvelope is left for all else.
	MaxOutput = (MaxResponse - responseEnvelope) / 2
	// MaxLargeOutput is the same of V11, where a byte takes one.
	MaxLargeOutput = MaxLargeResponse - responseEnvelope

	// MaxError is the longest error text that EncodeResponse sends, in bytes;
	// it cuts longer ones.
	MaxError = 2 << 10

	responseEnvelope = 4 << 10
)

// Protocol is the version's libp2p protocol ID.
func (v Version) Protocol() string { return fmt.Sprintf("/worldcompute/dispatch/1.%d.0", int(v)) }

// MaxRequest is the most bytes of an encoded request.
func (v Version) MaxRequest() int { return pick(v, MaxRequest, MaxLargeRequest) }

// MaxResponse is the most bytes of an encoded response.
func (v Version) MaxResponse() int { return pick(v, MaxResponse, MaxLargeResponse) }

// MaxOutput is the longest output that surely fits a response.
func (v Version) MaxOutput() int { return pick(v, MaxOutput, MaxLargeOutput) }

func pick(v Version, v10, v11 int) int {
	if v == V11 {
		return v11
	}
	return v10
}
