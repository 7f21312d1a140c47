package pac

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Way is one element of a script's answer.
type Way struct {
	Scheme  string // of the proxy: http | https | socks5; empty: directly, without one
	Address string // host:port of the proxy
}

// Direct tells whether the way needs no proxy.
func (w Way) Direct() bool { return w.Scheme == "" }

// keywords are the kinds of proxy that we can use. SOCKS leaves the version
// open, and nobody serves only the fourth any more.
var keywords = map[string]struct{ scheme, port string }{
	"PROXY":  {"http", "80"},
	"HTTP":   {"http", "80"},
	"HTTPS":  {"https", "443"},
	"SOCKS":  {"socks5", "1080"},
	"SOCKS5": {"socks5", "1080"},
}

// maxWays bounds an answer: nobody has more proxies that differ.
const maxWays = 16

// ParseAnswer reads what FindProxyForURL returned: "PROXY host:port; SOCKS5
// host:port; DIRECT". Nothing at all means directly. Kinds of proxy that we do
// not know are left out; it is an error when nothing else is there.
func ParseAnswer(answer string) ([]Way, error) {
	if strings.TrimSpace(answer) == "" {
		return []Way{{}}, nil
	}
	var ways []Way
	for part := range strings.SplitSeq(answer, ";") {
		if way, ok := parseWay(part); ok && len(ways) < maxWays {
			ways = append(ways, way)
		}
	}
	if len(ways) == 0 {
		return nil, fmt.Errorf("there is no way for us in its answer %.100q", answer)
	}
	return ways, nil
}

func parseWay(part string) (Way, bool) {
	words := strings.Fields(part)
	switch {
	case len(words) == 1 && strings.EqualFold(words[0], "DIRECT"):
		return Way{}, true
	case len(words) != 2:
		return Way{}, false
	}
	kind, known := keywords[strings.ToUpper(words[0])]
	address, ok := withPort(words[1], kind.port)
	return Way{Scheme: kind.scheme, Address: address}, known && ok
}

// withPort is the address with a port, its own or the given one.
func withPort(address, port string) (string, bool) {
	host := strings.Trim(address, "[]")
	if h, p, err := net.SplitHostPort(address); err == nil {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@?#[]%\\\"<>^`{|} ") {
		return "", false
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), true
}
