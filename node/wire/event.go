package wire

import "time"

// Kind names what an Event says. The set is closed: a reader that meets
// another word is reading a newer node.
type Kind string

// The events of a node, in the order in which a run usually meets them. Beside
// each: the fields that are set, besides Time, Seq and Kind.
const (
	NodeStarted  Kind = "node.started"  // Peer, Detail (software version), Boot
	NodeStopping Kind = "node.stopping" // Detail (signal, api, lease)
	NodeStopped  Kind = "node.stopped"  // the last event of an orderly end

	ListenAddr   Kind = "listen.addr"   // Addr, with /p2p/<self>; Relay when it is a circuit address
	ListenClosed Kind = "listen.closed" // Addr, Relay

	DialStarted Kind = "dial.started" // Dial, Peer, Addr, Transport; Detail where the purpose is not to connect (AutoNAT)
	DialEnded   Kind = "dial.ended"   // Dial, Peer, Addr, Transport, Outcome, Failure, Err, MS, Detail

	ResolveEnded Kind = "resolve.ended" // Addr (a /dnsaddr or /dns name), Outcome, Addrs, Failure, Err, MS, Detail (who answered: system, doh ..., dot ..., cache)

	NetworkChanged Kind = "network.changed" // Detail (what changed)
	ProxyFound     Kind = "proxy.found"     // Detail (its URL without credentials, and where it was found)
	PortalFound    Kind = "portal.found"    // Detail (how a captive portal showed itself); Outcome ok when it has opened
	WayRemembered  Kind = "way.remembered"  // Relay, Addr, Detail: the way that won here last time is tried first
	PathNarrow     Kind = "path.narrow"     // Relay, Conn where there was one, Detail: full-size packets vanish on this path, so smaller ones are used

	RelayFound     Kind = "relay.found"     // Peer, Addrs, Detail (dht, gossip, exchange, cache)
	RelayInspected Kind = "relay.inspected" // Relay, Conn, Detail (what the interceptor showed); Outcome failed when that ends the connection
	RelayServing   Kind = "relay.serving"   // Outcome ok: this node relays for others from now on, aborted: no more; Detail (why)

	ConnOpened Kind = "conn.opened" // Conn, Peer, Direction, Local, Remote, Transport, Security, Muxer, Relay when relayed, Route when by a proxy
	ConnClosed Kind = "conn.closed" // the same, and MS (its age), Err

	// ArrivalFailed is of a connection that came in by TCP and ended before libp2p's
	// security handshake: by the other end (connection_reset, eof_error), because that
	// said no more (generic_timeout_error), for want of room (resource_limit_exceeded),
	// or because what came made no sense (aborted). Of floods not all are told.
	ArrivalFailed Kind = "arrival.failed" // Local, Remote, Transport (empty: on a web server's port), Received, Sent, MS, Failure, Err

	ObservedAddr Kind = "observed.addr" // Addr (as Peer sees us), Peer, Conn
	PortMapped   Kind = "port.mapped"   // Addr: where the router of this network lets others in, since we asked it
	Reachability Kind = "reachability"  // Detail: public | private | unknown

	ReservationMade   Kind = "reservation.made"   // Relay, Conn, Addrs (circuit addresses), Expires, Voucher, LimitSeconds, LimitBytes; Renewal on a renewal
	ReservationFailed Kind = "reservation.failed" // Relay, Conn, Remote, Failure, Err; Renewal on a renewal
	ReservationLost   Kind = "reservation.lost"   // Relay, Conn, Err

	RelayPing Kind = "relay.ping" // Relay, Conn, Outcome, MS (round trip), Err

	RelayReservation   Kind = "relay.reservation"    // on a relay: Peer, Conn, Remote, Outcome, Expires, Renewal, Err (the refusal's status)
	RelayCircuitOpened Kind = "relay.circuit.opened" // on a relay: Circuit, Peer (source), Target, Remote (the source's address)
	RelayCircuitClosed Kind = "relay.circuit.closed" // on a relay: Circuit, Peer, Target, Bytes (both ways), MS
	RelayCircuitFailed Kind = "relay.circuit.failed" // on a relay: Peer, Target, Err (the refusal's status)

	HolePunch Kind = "holepunch" // Peer, Outcome, Detail (what was tried), Err, MS

	JobSent     Kind = "job.sent"     // on a submitter: Task, Peer, Conn, Relay, Path, ModuleSHA256, InputSHA256
	JobReceived Kind = "job.received" // on a donor: Task, Peer, Conn, Relay, Path, ModuleSHA256, InputSHA256
	JobEnded    Kind = "job.ended"    // on both: Task, Peer, Conn, Relay, Path, Status, OutputSHA256, MS, Err
)

// Outcome tells how an attempt ended. Every dial.started is followed by one
// dial.ended with one of these.
type Outcome string

const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Aborted Outcome = "aborted" // given up by us: another way won, or the node stops
)

// Event is one line of a node's events.jsonl. It is flat, so that a line can be
// read without knowing its kind; a field that a kind does not have is absent.
type Event struct {
	Time time.Time `json:"ts"`    // the node's own clock, UTC
	Seq  uint64    `json:"seq"`   // from 1, without gaps, per start of the node
	Boot string    `json:"boot"`  // random, per start of the node
	Kind Kind      `json:"event"` // what happened

	Peer      string    `json:"peer,omitempty"`      // the other peer's ID
	Addr      string    `json:"addr,omitempty"`      // multiaddr
	Addrs     []string  `json:"addrs,omitempty"`     // multiaddrs
	Local     string    `json:"local,omitempty"`     // multiaddr of a connection's near end
	Remote    string    `json:"remote,omitempty"`    // multiaddr of a connection's far end
	Relay     string    `json:"relay,omitempty"`     // the relay's peer ID; set where something goes through or is about a relay
	Target    string    `json:"target,omitempty"`    // the peer ID at the other side of a relayed circuit
	Transport string    `json:"transport,omitempty"` // tcp | quic-v1 | webtransport | ws | wss | http | https | circuit
	Route     string    `json:"route,omitempty"`     // by which proxy: its URL without credentials; empty: by none
	Security  string    `json:"security,omitempty"`  // protocol ID, as negotiated
	Muxer     string    `json:"muxer,omitempty"`     // protocol ID, as negotiated
	Direction string    `json:"direction,omitempty"` // inbound | outbound
	Dial      string    `json:"dial,omitempty"`      // one dial attempt, unique per boot
	Conn      string    `json:"conn,omitempty"`      // one connection, unique per boot
	Circuit   string    `json:"circuit,omitempty"`   // one relayed circuit, unique per boot of the relay
	Outcome   Outcome   `json:"outcome,omitempty"`   //
	Failure   string    `json:"failure,omitempty"`   // of the closed vocabulary of node/netcheck
	Err       string    `json:"err,omitempty"`       // the raw error
	MS        float64   `json:"ms,omitempty"`        // how long it took, in milliseconds
	Expires   time.Time `json:"expires,omitzero"`    // of a reservation
	Renewal   bool      `json:"renewal,omitempty"`   // of a reservation that stood before
	Voucher   []byte    `json:"voucher,omitempty"`   // the relay's signed reservation voucher (libp2p signed envelope), base64
	// LimitSeconds and LimitBytes are the relay's limits on one circuit; 0 means none.
	LimitSeconds uint32 `json:"limit_seconds,omitempty"`
	LimitBytes   uint64 `json:"limit_bytes,omitempty"`
	Bytes        uint64 `json:"bytes,omitempty"`
	Received     uint64 `json:"received,omitempty"` // bytes of an arrival
	Sent         uint64 `json:"sent,omitempty"`     // and of what we answered

	Task         string `json:"task,omitempty"`          // task ID
	Path         Path   `json:"path,omitempty"`          // how the task travelled
	Status       string `json:"status,omitempty"`        // a TaskStatus
	ModuleSHA256 string `json:"module_sha256,omitempty"` // hex
	InputSHA256  string `json:"input_sha256,omitempty"`  // hex; of the input under the name "stdin", or of nothing
	OutputSHA256 string `json:"output_sha256,omitempty"` // hex

	Detail string `json:"detail,omitempty"`
}

// Path is how two peers are connected.
type Path string

const (
	Direct  Path = "direct"
	Relayed Path = "relayed"
	AnyPath Path = "any" // only as a wish
)
