package traversal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// resolveTimeout bounds one question. The system's resolver asks two silent
	// servers twice, 5 s each; more patience than that finds nothing.
	resolveTimeout = 20 * time.Second
	// resolveAgain is when a name that was answered is asked again: relays move.
	resolveAgain = 10 * time.Minute
	// resolveDepth bounds how often a /dnsaddr may point to another one
	// (bootstrap.libp2p.io needs two).
	resolveDepth = 4
	// maxPerName bounds what one hostile or mistaken name can make us dial.
	maxPerName = 64
)

// expand asks DNS for a bootstrap name and hands every peer address to found,
// as soon as it is known, without /p2p. It returns an error when none was found.
// Names below a name are asked in parallel, each with a deadline of its own.
func (k *Keeper) expand(ctx context.Context, name ma.Multiaddr, resolver madns.BasicResolver, found func(peer.ID, ma.Multiaddr)) error {
	e := expansion{keeper: k, resolver: resolver, found: found}
	e.ask(ctx, name, resolveDepth)
	e.wg.Wait()
	if e.count == 0 {
		return errors.Join(append(e.errs, fmt.Errorf("expand %s: %w", name, netcheck.ErrNoAnswer))...)
	}
	return nil
}

// expansion is one walk from a name down to addresses.
type expansion struct {
	keeper   *Keeper
	resolver madns.BasicResolver
	found    func(peer.ID, ma.Multiaddr)
	wg       sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	count int
	errs  []error
}

// ask resolves one name and goes on with the answers. (What a /dnsaddr with a
// peer ID says about other peers, madns leaves out.)
func (e *expansion) ask(ctx context.Context, name ma.Multiaddr, depth int) {
	answers, err := e.keeper.resolve(ctx, name, e.resolver)
	if err != nil {
		e.fail(err)
		return
	}
	for _, a := range answers {
		addr, id := splitPeer(a)
		switch {
		case isName(a) && depth == 0:
			e.fail(fmt.Errorf("resolve %s: names point to names more than %d times", name, resolveDepth))
		case isName(a):
			e.wg.Go(func() { e.ask(ctx, a, depth-1) })
		case id == "":
			e.fail(fmt.Errorf("resolve %s: the answer %s names no peer", name, a))
		case TransportName(addr) != "" && !has(addr, ma.P_CIRCUIT):
			e.deliver(id, canonical(addr))
		}
	}
}

func (e *expansion) deliver(id peer.ID, addr ma.Multiaddr) {
	e.mu.Lock()
	e.count++
	tooMany := e.count > maxPerName
	e.mu.Unlock()
	if !tooMany {
		e.found(id, addr)
	}
}

func (e *expansion) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
}

// resolve asks one question and records it.
func (k *Keeper) resolve(ctx context.Context, name ma.Multiaddr, by madns.BasicResolver) ([]ma.Multiaddr, error) {
	resolver, err := madns.NewResolver(madns.WithDefaultResolver(by))
	if err != nil {
		return nil, fmt.Errorf("make a resolver: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	began := time.Now()
	answers, err := resolver.Resolve(ctx, withServerName(name))
	if err == nil && len(answers) == 0 {
		err = netcheck.ErrNoAnswer
	}
	ev := wire.Event{Kind: wire.ResolveEnded, Addr: name.String(), Outcome: wire.OK, MS: ms(time.Since(began))}
	if err != nil {
		ev.Outcome, ev.Failure, ev.Err = outcomeOf(ctx, err), string(netcheck.Classify(err)), err.Error()
	}
	for _, a := range answers {
		ev.Addrs = append(ev.Addrs, a.String())
	}
	k.record(ev)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", name, err)
	}
	return answers, nil
}

// withServerName keeps the host name of a WebSocket address over TLS as /sni:
// it is what the certificate and a name-based virtual host are about, and would
// be gone once the name is an IP.
func withServerName(a ma.Multiaddr) ma.Multiaddr {
	a = canonical(a)
	if !isHostName(a) || TransportName(a) != "wss" || has(a, ma.P_SNI) {
		return a
	}
	var host string
	out := make(ma.Multiaddr, 0, len(a)+1)
	for _, c := range a {
		out = append(out, c)
		switch c.Protocol().Code {
		case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			host = c.Value()
		case ma.P_TLS:
			if sni, err := ma.NewComponent("sni", host); err == nil {
				out = append(out, *sni)
			}
		}
	}
	return out
}

// outcomeOf tells a failure from an attempt that we gave up ourselves.
func outcomeOf(ctx context.Context, err error) wire.Outcome {
	if errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled) {
		return wire.Aborted
	}
	return wire.Failed
}

// ms is a duration in the milliseconds of wire.Event.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
