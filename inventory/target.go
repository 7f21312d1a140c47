package inventory

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Local as a Host's SSH is this very machine, without SSH.
const Local = "local"

// Target is what Host.SSH says.
type Target struct {
	User  string // empty: as ssh_config says, else the login of who runs the suite
	Host  string // an alias of ssh_config, a name, or an IP address
	Port  int    // 0: as ssh_config says, else 22
	Local bool   // this machine; the other fields are empty
}

// String writes a target as an inventory has it.
func (t Target) String() string {
	if t.Local {
		return Local
	}
	s := t.Host
	switch {
	case t.Port != 0:
		s = net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
	case strings.Contains(t.Host, ":"):
		s = "[" + t.Host + "]"
	}
	if t.User != "" {
		s = t.User + "@" + s
	}
	return s
}

var (
	errShape = errors.New("is not an SSH target")
	hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$`)
	userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._\\+-]*\$?$`)
)

// errPort is a port that is none.
type errPort string

func (e errPort) Error() string { return string(e) + " is not a TCP port" }

// ParseTarget reads `local`, an alias of ssh_config, or user@host[:port], where
// an IPv6 address stands in brackets.
func ParseTarget(s string) (Target, error) {
	if s == Local {
		return Target{Local: true}, nil
	}
	var t Target
	rest := s
	if user, host, ok := strings.Cut(s, "@"); ok {
		t.User, rest = user, host
		if !userName.MatchString(user) {
			return Target{}, userError(user)
		}
	}
	var err error
	if t.Host, t.Port, err = hostPort(rest); err != nil {
		return Target{}, err
	}
	return t, nil
}

func userError(user string) error {
	if name, _, ok := strings.Cut(user, ":"); ok {
		return fmt.Errorf("a password does not belong here (login %q): %w", name, errShape)
	}
	return fmt.Errorf("login %s %w", shortened(user), errShape)
}

func hostPort(s string) (host string, port int, err error) {
	digits := ""
	switch {
	case strings.HasPrefix(s, "["):
		in, after, ok := strings.Cut(s[1:], "]")
		a, bad := netip.ParseAddr(in)
		if !ok || bad != nil || !a.Is6() || after != "" && after[0] != ':' {
			return "", 0, fmt.Errorf("%s %w", shortened(s), errShape)
		}
		if after == "" {
			return in, 0, nil
		}
		host, digits = in, after[1:]
	default:
		var ported bool
		host, digits, ported = strings.Cut(s, ":")
		if !hostName.MatchString(host) || strings.Contains(digits, ":") {
			return "", 0, fmt.Errorf("%s %w", shortened(s), errShape)
		}
		if !ported {
			return host, 0, nil
		}
	}
	n, bad := strconv.ParseUint(digits, 10, 16)
	if bad != nil || n == 0 {
		return "", 0, errPort(shortenedPort(digits))
	}
	return host, int(n), nil
}

func shortenedPort(s string) string {
	if allDigits(s) && len(s) < 20 {
		return s
	}
	return shortened(s)
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func targetHint(err error) string {
	if port := errPort(""); errors.As(err, &port) {
		return portHint
	}
	return "write local, an alias of ~/.ssh/config, or user@host:port; an IPv6 address in brackets"
}

const portHint = "ports go from 1 to 65535"
