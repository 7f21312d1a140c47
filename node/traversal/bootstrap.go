package traversal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// BuiltinBootstrap is the list a node joins by when it is told nothing: World
// Compute's own names (they carry no peer ID; who answers is learned from DNS),
// the public libp2p bootstrappers by name, and the same by raw address, because
// a network without working DNS is one of those we have to get out of. The raw
// addresses are the bootstrappers' published ones; TCP 443 is their WebSocket
// port. One that has moved costs a failed dial, and no time.
var BuiltinBootstrap = slices.Concat(WorldCompute, []string{
	"/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
	"/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
	"/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
	"/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",

	"/ip4/139.178.91.71/udp/4001/quic-v1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
	"/ip4/139.178.91.71/tcp/4001/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
	"/ip4/139.178.91.71/tcp/443/tls/sni/sv15.bootstrap.libp2p.io/ws/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
	"/ip4/139.178.65.157/udp/4001/quic-v1/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
	"/ip4/139.178.65.157/tcp/4001/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
	"/ip4/139.178.65.157/tcp/443/tls/sni/ny5.bootstrap.libp2p.io/ws/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
	"/ip4/147.75.87.27/udp/4001/quic-v1/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
	"/ip4/147.75.87.27/tcp/4001/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
	"/ip4/147.75.87.27/tcp/443/tls/sni/am6.bootstrap.libp2p.io/ws/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
	"/ip4/145.40.118.135/udp/4001/quic-v1/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
	"/ip4/145.40.118.135/tcp/4001/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
	"/ip4/145.40.118.135/tcp/443/tls/sni/sg1.bootstrap.libp2p.io/ws/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
	"/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
	"/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
})

// WorldCompute is the part of it that is World Compute's own.
var WorldCompute = []string{
	"/dnsaddr/bootstrap1.worldcompute.org",
	"/dnsaddr/bootstrap2.worldcompute.org",
	"/dnsaddr/bootstrap3.worldcompute.org",
}

// entries is a bootstrap list, sorted by what has to be done with it.
type entries struct {
	peers map[peer.ID][]ma.Multiaddr // raw addresses, without /p2p
	order []peer.ID                  // of peers, as in the list
	names []ma.Multiaddr             // /dnsaddr and /dns*, whole
}

// CheckBootstrap tells everything that is wrong with a bootstrap list, and nil
// when nothing is.
func CheckBootstrap(list []string) error {
	_, err := parseBootstrap(list)
	return err
}

func parseBootstrap(list []string) (entries, error) {
	e := entries{peers: map[peer.ID][]ma.Multiaddr{}}
	var errs []error
	for _, text := range list {
		if err := e.add(text); err != nil {
			errs = append(errs, fmt.Errorf("bootstrap address %q: %w", text, err))
		}
	}
	return e, errors.Join(errs...)
}

func (e *entries) add(text string) error {
	a, err := ma.NewMultiaddr(text)
	if err != nil {
		return err
	}
	if has(a, ma.P_CIRCUIT) {
		return errors.New("goes through a relay itself; name a relay or a peer that can be dialled directly")
	}
	if isName(a) {
		e.names = append(e.names, a)
		return nil
	}
	addr, id := splitPeer(a)
	switch {
	case id == "":
		return errors.New("has no /p2p/PEER-ID at its end")
	case TransportName(addr) == "":
		return errors.New("names no transport we speak (tcp, quic-v1, webtransport, ws, wss)")
	}
	if _, known := e.peers[id]; !known {
		e.order = append(e.order, id)
	}
	e.peers[id] = append(e.peers[id], canonical(addr))
	return nil
}

// isName tells whether a has to be asked of DNS before it can be dialled.
func isName(a ma.Multiaddr) bool {
	return has(a, ma.P_DNSADDR) || isHostName(a)
}

func isHostName(a ma.Multiaddr) bool {
	return has(a, ma.P_DNS) || has(a, ma.P_DNS4) || has(a, ma.P_DNS6)
}
