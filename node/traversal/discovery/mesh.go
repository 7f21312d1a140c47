package discovery

import (
	"fmt"
	"regexp"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"
)

// mesh is what a mesh is called on the wire.
type mesh struct {
	prefix   protocol.ID // of the DHT's protocol
	gossip   protocol.ID
	topic    string
	exchange protocol.ID
	relays   cid.Cid // what relays are providers of in the DHT
}

// meshName keeps the name of a private mesh to one readable path element.
var meshName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// CheckMesh tells what is wrong with the name of a private mesh; nil when nothing
// is. No name is that of the public one.
func CheckMesh(name string) error {
	_, err := meshOf(name)
	return err
}

// meshOf names the parts of a mesh; the empty name is the public one's.
//
// Gossip has a protocol ID of our own, so that the many public peers that speak
// plain /meshsub are not taken for members.
func meshOf(name string) (mesh, error) {
	prefix := "/worldcompute"
	if name != "" {
		if !meshName.MatchString(name) {
			return mesh{}, fmt.Errorf("name of a private mesh: %q is not of up to 63 letters, digits, '.', '_' and '-'", name)
		}
		prefix += "/" + name
	}
	topic := prefix + "/relays/1"
	sum, err := multihash.Sum([]byte(topic), multihash.SHA2_256, -1)
	if err != nil {
		return mesh{}, fmt.Errorf("key of the relays of %s: %w", prefix, err)
	}
	return mesh{
		prefix:   protocol.ID(prefix),
		gossip:   protocol.ID(prefix + "/meshsub/1.1.0"),
		topic:    topic,
		exchange: protocol.ID(prefix + "/relays/1.0.0"),
		relays:   cid.NewCidV1(cid.Raw, sum),
	}, nil
}

// kad is the protocol that the DHT makes of its prefix.
func (m mesh) kad() protocol.ID { return m.prefix + "/kad/1.0.0" }
