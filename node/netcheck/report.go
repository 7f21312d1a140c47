package netcheck

import "time"

// Report is what a host saw of its network: facts, and no verdict on them. Its
// JSON is what `wce2e node netcheck --json` prints and what bundles keep;
// Diagnose makes verdicts of it, anywhere and at any time.
type Report struct {
	Version  int       `json:"version"` // ReportVersion
	Software string    `json:"software"`
	Platform string    `json:"platform"` // GOOS/GOARCH
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Local    Local     `json:"local"`
	Targets  []Target  `json:"targets"`            // in the order of the list
	Records  []Record  `json:"records"`            // in the order in which they began
	Controls []Control `json:"controls"`           // what others saw; none: nothing is ever called blocked
	Arrivals []Arrival `json:"arrivals,omitempty"` // what relays say of connections from here that came to nothing
	Daemon   *Daemon   `json:"daemon,omitempty"`
}

// ReportVersion is of the shape of a Report.
const ReportVersion = 1

// Local is what the machine itself says of its network.
type Local struct {
	Addrs     []string `json:"addrs"`     // of interfaces that are up, with prefix length, loopback left out
	Routes    []string `json:"routes"`    // families with a default route: ip4, ip6
	Resolvers []string `json:"resolvers"` // IP addresses
	Proxies   []Proxy  `json:"proxies"`
}

// Proxy is one that the machine was told of.
type Proxy struct {
	URL         string `json:"url"`    // without credentials
	Source      string `json:"source"` // environment | pac
	Credentials bool   `json:"credentials"`
}

// Target is one address of the list that a donor starts from.
type Target struct {
	Addr  string   `json:"addr"`
	Peer  string   `json:"peer"`  // empty: whoever answers
	Leads []string `json:"leads"` // the addresses that were dialled for it, itself where it is none of DNS
}

// Operation is one layer of the ladder.
type Operation string

// The ladder, from the bottom up, and behind it what is tried beside it so that
// causes with the same face are told apart.
const (
	Resolve     Operation = "resolve"     // Question of Addr, by Proto: system, udp, tcp, dot, doh
	Connect     Operation = "connect"     // TCP
	QUIC        Operation = "quic"        // QUIC's handshake, libp2p's TLS included
	ProxyTunnel Operation = "proxy"       // CONNECT or SOCKS
	TLS         Operation = "tls"         // the outer one, of WebSocket
	Upgrade     Operation = "upgrade"     // HTTP's, to WebSocket
	Multistream Operation = "multistream" // the first bytes of libp2p, both ways
	Security    Operation = "security"    // Noise or libp2p's TLS, by Proto
	Muxer       Operation = "muxer"
	Identify    Operation = "identify"
	Reserve     Operation = "reserve"
	Keepalive   Operation = "keepalive" // silence, then a round trip; Bytes aside

	Datagram Operation = "datagram" // UDP there and back, by STUN
	Mapping  Operation = "mapping"  // where a STUN server sees a socket: one transaction, one socket
	Hairpin  Operation = "hairpin"  // UDP between two sockets of this machine, by what Mapping saw of them
	Portal   Operation = "portal"   // a page whose content is known, by plain HTTP
	Harmless Operation = "harmless" // bytes that are no libp2p, to an address where libp2p failed
	Size     Operation = "size"     // packets, or bytes in all, of Bytes
	Loss     Operation = "loss"     // datagrams there and back, at a slow pace: of Tried, Stood came back
	Flows    Operation = "flows"    // connections to one address, open at once
	Clock    Operation = "clock"    // the time as others tell it
)

// Record is one operation. What does not apply is empty.
type Record struct {
	ID          int       `json:"id"` // its place in Report.Records, or in Control.Records
	Transaction int       `json:"transaction"`
	Target      int       `json:"target"` // index into Report.Targets, of the first where several share the lead or the question; -1: none's
	T0          float64   `json:"t0"`     // seconds since Report.Began
	T           float64   `json:"t"`      // seconds it took
	Operation   Operation `json:"operation"`
	Transport   string    `json:"transport"` // of the dial that this is a step of, as wire.TransportOf names it
	Proto       string    `json:"proto"`
	Lead        string    `json:"lead"`    // of Target.Leads, which several targets may share; empty: none's
	Addr        string    `json:"addr"`    // whom it was done with: IP:port, or a URL
	Failure     *Failure  `json:"failure"` // nil: it succeeded
	Error       string    `json:"error"`   // the raw error, scrubbed
	Errno       string    `json:"errno"`   // its system error, such as ECONNRESET
	ICMP        string    `json:"icmp"`    // an ICMP error that came back, such as admin-prohibited
	Sent        int64     `json:"sent"`    // bytes, of this operation
	Received    int64     `json:"received"`
	Facts       Facts     `json:"facts,omitzero"`
}

// Facts are what some operations learn.
type Facts struct {
	Question  string     `json:"question,omitempty"` // of a Resolve: TYPE NAME
	Answers   []string   `json:"answers,omitempty"`
	Status    int        `json:"status,omitempty"`    // of HTTP
	Location  string     `json:"location,omitempty"`  // of an HTTP redirect
	Chain     []Cert     `json:"chain,omitempty"`     // that the other end showed, its own first
	Trusted   *bool      `json:"trusted,omitempty"`   // the chain leads to an authority that this machine trusts
	Stated    *bool      `json:"stated,omitempty"`    // of an Identify: the relay said, inside Noise, that the certificate that was shown is its own, or not
	Peer      string     `json:"peer,omitempty"`      // who answered
	Agent     string     `json:"agent,omitempty"`     //
	Observed  string     `json:"observed,omitempty"`  // our address as the other end sees it: IP:port, of an Identify a multiaddr
	Expires   *time.Time `json:"expires,omitempty"`   // of a reservation, also where a Size led to one
	Bytes     int        `json:"bytes,omitempty"`     // of a Size: what was tried
	Segment   int        `json:"segment,omitempty"`   // of a Size: the most that one packet carried; 0: the system's choice
	Silence   float64    `json:"silence,omitempty"`   // of a Keepalive: seconds
	Arrived   int64      `json:"arrived,omitempty"`   // of a Keepalive: bytes that came during it, unasked
	Tried     int        `json:"tried,omitempty"`     // of Flows and of Loss
	Stood     int        `json:"stood,omitempty"`     // of them
	Login     bool       `json:"login,omitempty"`     // of a ProxyTunnel: the proxy asked for a user and a password
	Offset    *float64   `json:"offset,omitempty"`    // of a Clock: seconds that this machine is ahead
	FirstByte string     `json:"firstbyte,omitempty"` // hex of the first 64 bytes that came in place of what was expected
}

// Cert is a certificate of a chain.
type Cert struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	SHA256    string    `json:"sha256"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Control is the same ladder from elsewhere.
type Control struct {
	Host    string   `json:"host"`
	Records []Record `json:"records"`
}

// Daemon is what became of a node that was to join meanwhile.
type Daemon struct {
	Started bool    `json:"started"`
	Ended   bool    `json:"ended"` // by itself
	Exit    int     `json:"exit"`
	Lived   float64 `json:"lived"`   // seconds
	Dials   int     `json:"dials"`   // that began
	Silent  int     `json:"silent"`  // of them, those without an outcome
	Stalled int     `json:"stalled"` // of them, those that connected and then waited in vain for the handshake
	Joined  bool    `json:"joined"`  // it holds a reservation
	Way     string  `json:"way"`     // the transport of it
	Said    string  `json:"said"`    // its last words
}
