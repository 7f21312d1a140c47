package node

import (
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/worldcompute/wce2e/node/wire"
)

// A donor's router has forgotten its flows, and the connection does not know yet.
func TestAJobDoesNotGoByAConnectionThatIsDead(t *testing.T) {
	donor, submitter := plainHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0")), plainHost(t, libp2p.NoListenAddrs)
	to, err := parseTarget(donor.Addrs()[0].String() + "/p2p/" + donor.ID().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &router{host: submitter, circuits: &circuits{}}
	reach := func() (way route, fresh bool) {
		t.Helper()
		way, fresh, err := r.reach(short(t), to, wire.AnyPath)
		if err != nil {
			t.Fatal(err)
		}
		return way, fresh
	}
	first, _ := reach()
	if second, fresh := reach(); fresh || second.conn != first.conn {
		t.Errorf("with %s answering, the way is %s", first.conn, second.conn)
	}

	donor.SetStreamHandler(ping.ID, func(network.Stream) {}) // and never a word
	r.answered(first.conn)
	if after, fresh := reach(); fresh || after.conn != first.conn {
		t.Errorf("just after an answer on %s, the way is %s", first.conn, after.conn)
	}
	r.unanswered(first.conn)
	job, err := first.stream(short(t), "/job")
	if err != nil {
		t.Fatal(err)
	}
	if third, fresh := reach(); fresh || third.conn != first.conn {
		t.Errorf("with a job on %s, the way is %s", first.conn, third.conn)
	}
	_ = job.Reset()
	conn := submitter.Network().ConnsToPeer(donor.ID())[0]
	await(t, "the end of all that is under way", func() bool { return !working(conn) })
	if last, fresh := reach(); !fresh || last.conn == first.conn {
		t.Errorf("with %s silent, the way is %s", first.conn, last.conn)
	}
}
