package pac

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/dop251/goja"
)

// The functions that every script may use. They were written down for Netscape
// Navigator 2.0 and never standardized; where the description leaves something
// open, they do what Firefox does.
// https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/Proxy_servers_and_tunneling/Proxy_Auto-Configuration_PAC_file

// functions are these by name.
func (e *evaluation) functions(vm *goja.Runtime) map[string]func(goja.FunctionCall) goja.Value {
	on := func(f func(args []string) any) func(goja.FunctionCall) goja.Value {
		return func(call goja.FunctionCall) goja.Value { return vm.ToValue(f(texts(call))) }
	}
	return map[string]func(goja.FunctionCall) goja.Value{
		"isPlainHostName":     on(func(a []string) any { return !strings.Contains(a[0], ".") }),
		"dnsDomainIs":         on(func(a []string) any { return hasSuffix(a[0], a[1]) }),
		"localHostOrDomainIs": on(func(a []string) any { return isHostOf(a[0], a[1]) }),
		"isResolvable":        on(func(a []string) any { return e.resolve(a[0]) != "" }),
		"isInNet":             on(func(a []string) any { return isInNet(e.resolve(a[0]), a[1], a[2]) }),
		"dnsResolve":          on(func(a []string) any { return orNull(e.resolve(a[0])) }),
		"convert_addr":        on(func(a []string) any { return number(a[0]) }),
		"myIpAddress":         on(func([]string) any { return e.address }),
		"dnsDomainLevels":     on(func(a []string) any { return strings.Count(a[0], ".") }),
		"shExpMatch":          on(func(a []string) any { return matches(a[0], a[1]) }),
		"weekdayRange":        on(func(a []string) any { return weekdayRange(e.now, a) }),
		"dateRange":           on(func(a []string) any { return dateRange(e.now, a) }),
		"timeRange":           on(func(a []string) any { return timeRange(e.now, a) }),
		"alert":               on(func([]string) any { return nil }),
	}
}

// fewest is how many arguments a function can count on; absent ones are empty.
const fewest = 3

func texts(call goja.FunctionCall) []string {
	out := make([]string, 0, fewest)
	for _, a := range call.Arguments {
		out = append(out, a.String())
	}
	for len(out) < fewest {
		out = append(out, "")
	}
	return out
}

// orNull is JavaScript's null for an address that does not exist.
func orNull(address string) any {
	if address == "" {
		return nil
	}
	return address
}

func hasSuffix(host, domain string) bool {
	return strings.HasSuffix(strings.ToLower(host), strings.ToLower(domain))
}

// isHostOf: "www" and "www.example.edu" are the host www.example.edu.
func isHostOf(host, full string) bool {
	host, full = strings.ToLower(host), strings.ToLower(full)
	return host == full || !strings.Contains(host, ".") && strings.HasPrefix(full, host+".")
}

func isInNet(address, pattern, mask string) bool {
	return address != "" && isIPv4(pattern) && isIPv4(mask) && number(address)&number(mask) == number(pattern)&number(mask)
}

// number is an IPv4 address as one; 0 when it is none.
func number(address string) int64 {
	a, err := netip.ParseAddr(address)
	if err != nil || !a.Is4() {
		return 0
	}
	b := a.As4()
	return int64(binary.BigEndian.Uint32(b[:]))
}

// matches tells whether a shell pattern of * and ? covers the whole text. It
// goes back only to the last star, so that no pattern takes long.
func matches(text, pattern string) bool {
	t, p := 0, 0
	star, from := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			t, p = t+1, p+1
		case star >= 0:
			from++
			t, p = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
