package report

import "time"

// said is what a report shows of a node's event: the fields of the node's own
// protocol, by their JSON names.
type said struct {
	Time      time.Time `json:"ts"`
	Boot      string    `json:"boot"`
	Kind      string    `json:"event"`
	Peer      string    `json:"peer"`
	Addr      string    `json:"addr"`
	Addrs     []string  `json:"addrs"`
	Local     string    `json:"local"`
	Remote    string    `json:"remote"`
	Relay     string    `json:"relay"`
	Target    string    `json:"target"`
	Transport string    `json:"transport"`
	Security  string    `json:"security"`
	Muxer     string    `json:"muxer"`
	Direction string    `json:"direction"`
	Dial      string    `json:"dial"`
	Conn      string    `json:"conn"`
	Circuit   string    `json:"circuit"`
	Outcome   string    `json:"outcome"`
	Failure   string    `json:"failure"`
	Err       string    `json:"err"`
	MS        float64   `json:"ms"`
	Expires   time.Time `json:"expires"`
	Renewal   bool      `json:"renewal"`
	Bytes     uint64    `json:"bytes"`
	Task      string    `json:"task"`
	Path      string    `json:"path"`
	Status    string    `json:"status"`
	Detail    string    `json:"detail"`
}

// dialResult is what a report shows of a probe's result.
type dialResult struct {
	Self      string  `json:"self"`
	Addr      string  `json:"addr"`
	Peer      string  `json:"peer"`
	Outcome   string  `json:"outcome"`
	Path      string  `json:"path"`
	Relay     string  `json:"relay"`
	Transport string  `json:"transport"`
	Observed  string  `json:"observed"`
	Failure   string  `json:"failure"`
	Err       string  `json:"err"`
	MS        float64 `json:"ms"`
	PingMS    float64 `json:"ping_ms"`
}

// jobResult is what a report shows of a dispatch.
type jobResult struct {
	TaskID       string  `json:"task_id"`
	Status       string  `json:"status"`
	DurationMS   float64 `json:"duration_ms"`
	RoundTripMS  float64 `json:"round_trip_ms"`
	Path         string  `json:"path"`
	Relay        string  `json:"relay"`
	OutputSHA256 string  `json:"output_sha256"`
	Error        string  `json:"error"`
}

// nodeStatus is what a report shows of a node's status.
type nodeStatus struct {
	PeerID       string     `json:"peer_id"`
	Reachability string     `json:"reachability"`
	CircuitAddrs []string   `json:"circuit_addrs"`
	Relays       []struct{} `json:"relays"`
	Peers        []struct{} `json:"peers"`
}
