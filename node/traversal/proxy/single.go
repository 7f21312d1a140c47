package proxy

import (
	"context"
	"net"
	"slices"
)

// Proxy is one that a Finder knows of.
type Proxy struct {
	URL         string // without credentials
	Source      string // the variable, or where the script was found
	Script      bool   // a script named it
	Credentials bool   // there are some for it
	server      server
}

// Proxies are those that would be tried for hostport, the likeliest first. It waits
// for the network's script, where one may be, until the end of ctx.
func (f *Finder) Proxies(ctx context.Context, hostport string) []Proxy {
	if f.bypassed(hostport) {
		return nil
	}
	servers, script := f.forTCP(), false
	for _, s := range f.fromEnvironment(hostport) {
		if !slices.ContainsFunc(servers, func(o server) bool { return o.String() == s.String() }) {
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 && !f.NoDiscovery || f.getenv(pacURL) != "" {
		servers, script = f.fromScript(ctx, hostport), true
	}
	var out []Proxy
	for _, s := range servers {
		known := !s.login.empty() || !f.credentials(s).empty()
		out = append(out, Proxy{URL: s.String(), Source: s.source, Script: script, Credentials: known, server: s})
	}
	return out
}

func (f *Finder) fromScript(ctx context.Context, hostport string) []server {
	a := f.announced()
	ways, err := f.ask(ctx, a, hostport)
	if err != nil {
		return nil // there is no script, or it does not work: none is the answer
	}
	var out []server
	for _, w := range ways {
		if !w.Direct() {
			out = append(out, server{scheme: w.Scheme, address: w.Address, source: a.source, named: a.named})
		}
	}
	return distinct(out)
}

// WantsLogin tells whether the proxy has asked for a user and a password and was
// given those of the file. Those in its own URL it is given unasked.
func (f *Finder) WantsLogin(p Proxy) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.basic[p.server.String()]
}

// DialThrough opens a TCP connection to hostport through this proxy and in no other
// way. The error is a *Refused or an *Unreachable.
func (f *Finder) DialThrough(ctx context.Context, p Proxy, hostport string) (net.Conn, error) {
	return f.tunnel(ctx, p.server, hostport)
}
