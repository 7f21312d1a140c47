package names

import (
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

const (
	// paddedTo is the block size of queries, in bytes (RFC 8467, section 4.1): who
	// sees only lengths learns little.
	paddedTo = 128
	// optionHeader is what an EDNS0 option costs besides its content, in bytes.
	optionHeader = 4
	// udpSize is of no use over TCP but has to be something.
	udpSize = 1232
)

// messages are the queries that a question takes. Their IDs count from 1: over
// TLS nobody can guess, and a connection carries one question at a time.
func (q question) messages() ([]*dns.Msg, error) {
	types := []uint16{dns.TypeTXT}
	if q.kind == IP {
		types = []uint16{dns.TypeA, dns.TypeAAAA}
	}
	var out []*dns.Msg
	for i, t := range types {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(q.name), t)
		m.Id = uint16(i + 1)
		pad(m)
		if _, err := m.Pack(); err != nil {
			return nil, fmt.Errorf("ask for %s: %w", q, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func pad(m *dns.Msg) {
	m.SetEdns0(udpSize, false)
	over := (m.Len() + optionHeader) % paddedTo
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_PADDING{Padding: make([]byte, (paddedTo-over)%paddedTo)})
}

// answers tells whether a message is the reply to a query.
func answers(reply, query *dns.Msg) bool {
	return reply.Response && reply.Id == query.Id && len(reply.Question) == 1 &&
		strings.EqualFold(reply.Question[0].Name, query.Question[0].Name) &&
		reply.Question[0].Qtype == query.Question[0].Qtype
}

// values reads the replies to a question. One that fails matters only where the
// others say nothing.
func (q question) values(replies []*dns.Msg, server string) ([]string, error) {
	var out []string
	var failed error
	for _, m := range replies {
		switch m.Rcode {
		case dns.RcodeSuccess, dns.RcodeNameError:
			out = append(out, q.records(m.Answer)...)
		default:
			failed = &net.DNSError{Err: "the server said " + dns.RcodeToString[m.Rcode], Name: q.name, Server: server, IsTemporary: true}
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case failed != nil:
		return nil, failed
	}
	return nil, notFound(q, server)
}

// records reads those of the question's type. Whose they are is not looked at:
// the server has followed the aliases.
func (q question) records(records []dns.RR) []string {
	var out []string
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			if q.kind == IP && rr.A != nil {
				out = append(out, rr.A.String())
			}
		case *dns.AAAA:
			if q.kind == IP && rr.AAAA != nil {
				out = append(out, rr.AAAA.String())
			}
		case *dns.TXT:
			if q.kind == TXT {
				out = append(out, unescape(strings.Join(rr.Txt, "")))
			}
		}
	}
	return out
}

// unescape undoes what the dns package does to texts: \" and \\ and \DDD, as in
// zone files.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			out.WriteByte((s[i]-'0')*100 + (s[i+1]-'0')*10 + (s[i+2] - '0'))
			i += 2
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
