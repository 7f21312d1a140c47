package wire

import "time"

// Status is what `wce2e node status --json` prints.
type Status struct {
	PeerID       string        `json:"peer_id"`
	Name         string        `json:"name,omitempty"` // --name, else the hostname
	Version      string        `json:"version"`
	Boot         string        `json:"boot"` // as in Event
	PID          int           `json:"pid"`
	StartedAt    time.Time     `json:"started_at"`
	Role         string        `json:"role"`         // donor | relay
	ListenAddrs  []string      `json:"listen_addrs"` // what the node listens on, interface addresses resolved, without /p2p
	Addrs        []string      `json:"addrs"`        // what the node tells others to dial, with /p2p/<self>
	CircuitAddrs []string      `json:"circuit_addrs"`
	Observed     []Observation `json:"observed_addrs"`
	Reachability string        `json:"reachability"` // public | private | unknown
	NAT          NATStatus     `json:"nat"`
	Bootstrap    []string      `json:"bootstrap,omitempty"` // the list it joins by
	Portal       string        `json:"portal"`              // how a captive portal shows itself; empty: none does
	Way          *WayStatus    `json:"way,omitempty"`       // how the oldest standing reservation was reached; absent while there is none
	Tried        []Attempt     `json:"tried"`               // the last attempt at each of the addresses tried last, the latest first
	Relays       []RelayStatus `json:"relays"`
	Peers        []PeerStatus  `json:"peers"`
	Reservations []Held        `json:"reservations,omitempty"` // on a relay: what it holds for others
	Serving      *Serving      `json:"serving,omitempty"`      // absent: this node does not relay for others now
	Jobs         JobCounts     `json:"jobs"`
	Dials        DialCounts    `json:"dials"`
}

// Observation is an address of ours as a peer sees it.
type Observation struct {
	Addr string `json:"addr"`
	By   string `json:"by"` // peer ID
}

// NATStatus is how a NAT on the way maps our ports, as far as peers tell.
type NATStatus struct {
	UDP Mapping `json:"udp"`
	TCP Mapping `json:"tcp"`
}

// Mapping is the kind of a NAT's mapping (RFC 4787, section 4.1).
type Mapping string

const (
	NoNAT          Mapping = "none"                 // peers see the address of our own interface
	EndpointIndep  Mapping = "endpoint-independent" // all peers see one port: a hole punch can work
	EndpointDep    Mapping = "endpoint-dependent"   // each peer sees another port: it cannot, against another such NAT
	MappingUnknown Mapping = "unknown"              // fewer than two peers have told
)

// WayStatus is how a reservation was reached.
type WayStatus struct {
	Relay     string  `json:"relay"`
	Addr      string  `json:"addr"`
	Transport string  `json:"transport"`
	Route     string  `json:"route"`   // as in Event
	TookMS    float64 `json:"took_ms"` // from when a reservation was first lacking
	Why       string  `json:"why"`     // a sentence
}

// Attempt is the last dial of one address.
type Attempt struct {
	Addr    string    `json:"addr"`
	Peer    string    `json:"peer"`
	At      time.Time `json:"at"` // when it ended
	Outcome Outcome   `json:"outcome"`
	Failure string    `json:"failure"`
	MS      float64   `json:"ms"`
}

// RelayStatus is a relay that holds a reservation of ours.
type RelayStatus struct {
	PeerID    string    `json:"peer_id"`
	Addr      string    `json:"addr"`      // the address that was dialled
	Transport string    `json:"transport"` // as in Event
	Conn      string    `json:"conn"`
	Since     time.Time `json:"since"`   // of the connection
	Expires   time.Time `json:"expires"` // of the reservation
	RTTMS     float64   `json:"rtt_ms"`  // last liveness round trip, milliseconds; 0 before the first
	Route     string    `json:"route"`   // as in Event
	// Inspected tells whether a TLS interceptor sits on the path; null means not known.
	Inspected    *bool  `json:"inspected"`
	LimitSeconds uint32 `json:"limit_seconds"` // of one circuit; 0 means none
	LimitBytes   uint64 `json:"limit_bytes"`   // of one circuit; 0 means none
}

// PeerStatus is one open connection.
type PeerStatus struct {
	PeerID    string    `json:"peer_id"`
	Conn      string    `json:"conn"`
	Path      Path      `json:"path"`
	Direction string    `json:"direction"`
	Local     string    `json:"local"`
	Remote    string    `json:"remote"`
	Transport string    `json:"transport"`
	Since     time.Time `json:"since"`
}

// Held is a reservation that a relay holds for somebody.
type Held struct {
	PeerID  string    `json:"peer_id"`
	Remote  string    `json:"remote"`
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"`
}

// Serving is what a node that relays for others does, and within which limits.
type Serving struct {
	Since        time.Time         `json:"since"`
	Why          string            `json:"why"`
	Reservations int               `json:"reservations"`  // that stand
	CircuitsOpen int               `json:"circuits_open"` //
	Circuits     uint64            `json:"circuits"`      // since the node's start, like all below
	Bytes        int64             `json:"bytes"`         // relayed, both ways
	Refused      map[string]uint64 `json:"refused"`       // requests, by reason
	Limits       RelayLimits       `json:"limits"`
}

// RelayLimits are a relay's limits. A circuit has none of time or data.
type RelayLimits struct {
	Reservations           int   `json:"reservations"`             // all together
	ReservationsPerAddress int   `json:"reservations_per_address"` // from one IP address
	CircuitsPerPeer        int   `json:"circuits_per_peer"`        // open at once, as source or target
	CircuitsPerAddress     int   `json:"circuits_per_address"`     // open at once, whose source is at one IP address
	CircuitBytesPerSecond  int64 `json:"circuit_bytes_per_second"` // both ways together; 0 means any
	MemoryBytes            int64 `json:"memory_bytes"`             // for all connections and circuits
}

// JobCounts counts jobs since the start.
type JobCounts struct {
	Running   int `json:"running"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Refused   int `json:"refused"`
}

// DialCounts counts dial attempts since the start, by outcome.
type DialCounts struct {
	Started int `json:"started"`
	OK      int `json:"ok"`
	Failed  int `json:"failed"`
	Aborted int `json:"aborted"`
}

// DispatchRequest is what `wce2e node dispatch` asks of the running node, over
// its local API.
type DispatchRequest struct {
	To        string `json:"to"`             // multiaddr of the donor, with /p2p/<donor>
	Path      Path   `json:"path,omitempty"` // empty means any
	TaskID    string `json:"task_id,omitempty"`
	Name      string `json:"name,omitempty"` // the task's, and the module's first argument; empty means task
	Module    []byte `json:"module"`
	Input     []byte `json:"input,omitempty"`      // nil: no input
	TimeoutMS int64  `json:"timeout_ms,omitempty"` // of all of it, connecting included; 0 means 60 s
}

// DispatchResult is what `wce2e node dispatch --json` prints.
type DispatchResult struct {
	TaskID       string  `json:"task_id"`
	Status       string  `json:"status"`      // a TaskStatus; empty when the task never got there
	DurationMS   float64 `json:"duration_ms"` // on the donor, as it says
	RoundTripMS  float64 `json:"round_trip_ms"`
	ConnectMS    float64 `json:"connect_ms"` // 0 when a connection stood already
	Path         Path    `json:"path"`
	Relay        string  `json:"relay,omitempty"`
	Peer         string  `json:"peer"`
	Conn         string  `json:"conn,omitempty"`
	Remote       string  `json:"remote,omitempty"`
	Output       []byte  `json:"output,omitempty"` // base64; left out when --out is given
	OutputSHA256 string  `json:"output_sha256,omitempty"`
	Error        string  `json:"error"` // empty when there was none
}

// DialResult is what `wce2e node dial --json` prints: one dial with a fresh
// identity and fresh sockets, of exactly one address.
type DialResult struct {
	Self      string  `json:"self"`      // the fresh identity
	Addr      string  `json:"addr"`      // what was dialled
	Peer      string  `json:"peer"`      // who was expected there
	Outcome   Outcome `json:"outcome"`   //
	Path      Path    `json:"path"`      // of the connection; empty without one
	Relay     string  `json:"relay"`     // the relay's peer ID; empty when direct
	Transport string  `json:"transport"` // as in Event
	Local     string  `json:"local"`
	Remote    string  `json:"remote"`
	Security  string  `json:"security"`
	Observed  string  `json:"observed"` // our address as the peer sees it
	Failure   string  `json:"failure"`  // of the closed vocabulary
	Err       string  `json:"err"`
	MS        float64 `json:"ms"`
	PingMS    float64 `json:"ping_ms"` // a round trip on the new connection, milliseconds
	// Events are all dial events of this attempt: a circuit takes a dial of the relay first.
	Events []Event `json:"events"`
}
