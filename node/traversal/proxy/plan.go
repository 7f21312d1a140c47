package proxy

import (
	"context"
	"net"
	"slices"

	"github.com/worldcompute/wce2e/node/traversal/proxy/pac"
)

// plan lists the ways to a target, in the order in which they are tried.
func (f *Finder) plan(target string) []attempt {
	if f.bypassed(target) {
		return []attempt{f.directly(target)}
	}
	if f.getenv(pacURL) == "" {
		if servers := f.fromEnvironment(target); len(servers) > 0 {
			return f.inOrder(append(f.by(servers, target), f.directly(target)))
		}
		if f.NoDiscovery {
			return []attempt{f.directly(target)}
		}
	}
	return f.byScript(f.announced(), target)
}

// byScript are the ways that a PAC script has for a target. Where it has not
// been asked yet, that is one of the ways: it may take seconds without DNS. A
// script that a person named, or that is at hand, goes before the direct way.
func (f *Finder) byScript(a *announcement, target string) []attempt {
	if ways, known := a.answer(target); known {
		return f.inOrder(f.said(a, ways, target))
	}
	if a.named || a.ready() {
		return f.inOrder([]attempt{f.asking(a, target), f.directly(target)})
	}
	return f.inOrder([]attempt{f.directly(target), f.asking(a, target)})
}

// said are the ways of a script's answer. The direct one comes last when it was
// not mentioned.
func (f *Finder) said(a *announcement, ways []pac.Way, target string) []attempt {
	var out []attempt
	seen := map[string]bool{}
	for _, w := range append(slices.Clone(ways), pac.Way{}) {
		next := f.directly(target)
		if !w.Direct() {
			next = f.through(server{scheme: w.Scheme, address: w.Address, source: a.source, named: a.named}, target)
		}
		if !seen[next.route] {
			seen[next.route] = true
			out = append(out, next)
		}
	}
	return out
}

// asking asks the script and tries the proxies of its answer; the direct way is
// tried beside it.
func (f *Finder) asking(a *announcement, target string) attempt {
	return attempt{late: true, dial: func(ctx context.Context) (net.Conn, string, error) {
		ways, err := f.ask(ctx, a, target)
		if err != nil {
			return nil, "", err
		}
		proxies := slices.DeleteFunc(f.said(a, ways, target), func(w attempt) bool { return w.route == "" })
		conn, route, errs := race(ctx, f.inOrder(proxies))
		if conn == nil {
			return nil, "", several(errs)
		}
		return conn, route, nil
	}}
}

// by are the ways through several proxies.
func (f *Finder) by(servers []server, target string) []attempt {
	var out []attempt
	for _, s := range servers {
		out = append(out, f.through(s, target))
	}
	return out
}
