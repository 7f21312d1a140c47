package names

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// plainAgain is when a question over UDP is repeated that has no answer yet: a
// datagram may be lost, and nobody else would send it again.
const plainAgain = 800 * time.Millisecond

// plain asks one server as DNS always was, in the clear.
type plain struct{ Server }

func (p plain) closeIdle() {}

// exchange asks all queries at once, each until the end of ctx.
func (p plain) exchange(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	type outcome struct {
		reply *dns.Msg
		err   error
	}
	done := make(chan outcome, len(queries))
	for _, q := range queries {
		go func() {
			reply, err := p.one(ctx, q)
			done <- outcome{reply, err}
		}()
	}
	var replies []*dns.Msg
	var errs []error
	for range queries {
		o := <-done
		if o.err != nil {
			errs = append(errs, o.err)
			continue
		}
		replies = append(replies, o.reply)
	}
	return replies, first(errs)
}

func (p plain) one(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	q := query.Copy()
	q.Id = dns.Id()          // here it does guard against guesses
	q.IsEdns0().Option = nil // what is in the clear needs no padding
	client := dns.Client{Net: "tcp"}
	if p.Protocol == UDP {
		client = dns.Client{Net: "udp", Timeout: plainAgain, UDPSize: udpSize}
	}
	for {
		reply, _, err := client.ExchangeContext(ctx, q, p.Addr.String())
		if isTimeout(err) && ctx.Err() == nil {
			continue
		}
		if ctx.Err() != nil && err != nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		return reply, nil
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// Client asks one server and nobody else: it is for whoever wants to know what the
// server does, not what the answer is. It keeps connections
// for the next question as a Resolver does.
type Client struct {
	server Server
	asks   exchanger
}

// NewClient makes a client of s. Dial and Roots of the resolver are used, nil means
// the zero Resolver's.
func NewClient(s Server, r *Resolver) *Client {
	if r == nil {
		r = new(Resolver)
	}
	return &Client{s, newExchanger(s, r.connect, tlsConfig(s, r.Roots))}
}

// Ask returns addresses or texts, at least one. When the server denies that there
// are any, the error is a *net.DNSError with IsNotFound.
func (c *Client) Ask(ctx context.Context, name string, kind Type) ([]string, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("ask %s for %s: not a domain name", c.server, name)
	}
	return ask(ctx, c.server, c.asks, question{name, kind})
}

// Close closes the connections that are kept.
func (c *Client) Close() { c.asks.closeIdle() }

// AskSystem is the same question to the system's resolver, nil means
// net.DefaultResolver. The search list is left out.
func (r *Resolver) AskSystem(ctx context.Context, name string, kind Type) ([]string, error) {
	return r.system().ask(ctx, question{name, kind})
}
