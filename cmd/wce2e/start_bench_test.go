package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// The time from the start of a donor to its first reservation, beside that of
// plain go-libp2p on the same paths, at the same time of day.
const (
	startsEach  = 20               // of ours, and of plain go-libp2p where it gets there at all
	startsPlain = 2                // of plain go-libp2p where it does not
	startLimit  = 20 * time.Second // after which a start has failed
)

// startCase is one row of the table.
type startCase struct {
	name     string
	network  string // of the donor
	trips    int    // round trips that the shortest way needs
	dead     int    // relays in the list that do not answer
	remember bool   // the donor has been here before
}

var startCases = []startCase{
	{name: "open", network: "vps", trips: 5},
	{name: "open, 2 dead relays listed", network: "vps", trips: 5, dead: 2},
	{name: "open, remembered", network: "vps", trips: 5, remember: true},
	{name: "institutional", network: "campus", trips: 7},
	{name: "institutional, 2 dead relays listed", network: "campus", trips: 7, dead: 2},
	{name: "institutional, 12 dead relays listed", network: "campus", trips: 7, dead: 12},
	{name: "institutional, remembered", network: "campus", trips: 7, remember: true},
}

func BenchmarkStartToReservation(b *testing.B) {
	for _, rtt := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond} {
		b.Run(fmt.Sprintf("rtt=%s", rtt), func(b *testing.B) {
			for b.Loop() {
				startTable(b, rtt)
			}
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func startTable(b *testing.B, rtt time.Duration) {
	f := newFleet(b, &inventory.Lab{
		Latency: rtt / 4, // a round trip passes two links twice
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "vps", Profile: "open"},
			{Name: "campus", Profile: "institutional"}, {Name: "nowhere", Profile: "home"}},
		Hosts: []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "vps1", Network: "vps"},
			{Name: "tensor02", Network: "campus"}, {Name: "off", Network: "nowhere"}},
	})
	_, relay := f.ship("relay1").relay("relay")
	hosts := map[string]*ship{"vps": f.ship("vps1"), "campus": f.ship("tensor02")}
	var dead string // behind a router that drops what nobody asked for
	for _, h := range f.lab.Hosts {
		if h.Name == "off" {
			dead = h.Egress.String()
		}
	}
	for _, s := range hosts {
		s.bringSelf(plainDonor)
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nms from start to reservation, round trip %s\tgoal\tours p50\tp95\tplain p50\tp95\t\n", rtt)
	for _, c := range startCases {
		list := slices.Concat(deadRelays(b, dead, c.dead), relay)
		goal := time.Duration(c.trips)*rtt + 100*time.Millisecond
		if c.remember {
			goal = time.Duration(c.trips)*rtt + 50*time.Millisecond
		}
		ours := ourStarts(b, hosts[c.network], list, c.remember)
		plain := "-\t-"
		if !c.remember { // it remembers nothing
			plain = figures(plainStarts(b, hosts[c.network], list, c.dead > 0))
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t\n", c.name, goal.Milliseconds(), figures(ours), plain)
	}
	if err := t.Flush(); err != nil {
		b.Fatal(err)
	}
}

// figures are the median and the 95th percentile, in milliseconds; what took
// startLimit never got there.
func figures(took []time.Duration) string {
	slices.Sort(took)
	at := func(q float64) string {
		d := took[min(int(q*float64(len(took))), len(took)-1)]
		if d >= startLimit {
			return ">" + strconv.FormatInt(startLimit.Milliseconds(), 10)
		}
		return strconv.FormatInt(d.Milliseconds(), 10)
	}
	return at(0.5) + "\t" + at(0.95)
}

// deadRelays are relays that once were at an address which has gone silent.
func deadRelays(b *testing.B, ip string, n int) []string {
	var out []string
	for range n {
		id, err := test.RandPeerID()
		if err != nil {
			b.Fatal(err)
		}
		for _, way := range []string{"/tcp/4001", "/udp/4001/quic-v1", "/tcp/443/tls/ws"} {
			out = append(out, "/ip4/"+ip+way+"/p2p/"+id.String())
		}
	}
	return out
}

// ourStarts times our donor, by its own clock: from the start of the process's
// work to the event.
func ourStarts(b *testing.B, s *ship, bootstrap []string, remember bool) []time.Duration {
	var args []string
	for _, a := range bootstrap {
		args = append(args, "--bootstrap", a)
	}
	var took []time.Duration
	dir := fmt.Sprintf("donor%d", time.Now().UnixNano())
	for i := range startsEach {
		if !remember {
			dir = fmt.Sprintf("donor%d-%d", time.Now().UnixNano(), i)
		}
		d := s.start(dir, args...)
		st, err := d.await("reservation", startLimit, reserved)
		if err != nil {
			b.Fatal(err)
		}
		first := time.Duration(0)
		for _, e := range d.of(wire.ReservationMade) {
			if e.Boot == st.Boot {
				first = e.Time.Sub(st.StartedAt)
				break
			}
		}
		d.stop()
		if remember && i == 0 {
			continue // this one had nothing to remember
		}
		took = append(took, first)
	}
	return took
}

// plainStarts times plain go-libp2p.
func plainStarts(b *testing.B, s *ship, relays []string, hopeless bool) []time.Duration {
	n := startsEach
	if hopeless {
		n = startsPlain
	}
	var took []time.Duration
	for range n {
		res, err := s.try(startLimit+fleetQuick, append([]string{plainDonor, plainDonor}, relays...)...)
		if err != nil || res.Code != 0 {
			b.Fatalf("plain go-libp2p: %v, exit %d: %s", err, res.Code, res.Stderr)
		}
		ms, err := strconv.ParseFloat(strings.TrimSpace(string(res.Stdout)), 64)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Duration(ms*float64(time.Millisecond)))
	}
	return took
}

// plainDonor is the word by which this test binary becomes a donor of plain
// go-libp2p, and its name on the lab's hosts.
const plainDonor = "plain-donor"

// bringSelf uploads this test binary, under a name of its own.
func (s *ship) bringSelf(as string) {
	s.fleet.Helper()
	self, err := os.Executable()
	if err != nil {
		s.fleet.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.bring(ctx, self, as)
}

// runPlainDonor is a donor as go-libp2p's documentation has it: AutoRelay with a
// list of relays, on a host that knows that it is private. It prints how many
// milliseconds it took to an address through a relay. TLS certificates are not
// verified: the relays' are self-signed.
func runPlainDonor(relays []string) error {
	began := time.Now()
	var addrs []ma.Multiaddr
	for _, r := range relays {
		a, err := ma.NewMultiaddr(r)
		if err != nil {
			return err
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return err
	}
	h, err := libp2p.New(
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})),
		libp2p.EnableAutoRelayWithStaticRelays(infos), libp2p.ForceReachabilityPrivate())
	if err != nil {
		return err
	}
	defer h.Close()
	sub, err := h.EventBus().Subscribe(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		return err
	}
	took := startLimit
	deadline := time.After(startLimit)
wait:
	for {
		select {
		case e := <-sub.Out():
			if len(e.(event.EvtAutoRelayAddrsUpdated).RelayAddrs) > 0 {
				took = time.Since(began)
				break wait
			}
		case <-deadline:
			break wait
		}
	}
	fmt.Println(took.Seconds() * 1000)
	return nil
}
