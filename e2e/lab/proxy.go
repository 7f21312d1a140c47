//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"

	"github.com/armon/go-socks5"
)

// The office's names and ports. Its machines know the domain by their resolv.conf.
const (
	officeDomain = "corp.lan"
	proxyName    = "proxy." + officeDomain
	httpPort     = 3128
	socksPort    = 1080
)

// proxyUser is who proxyWithPassword lets out. The password has what a URL
// would have to escape.
const (
	proxyUser     = "donor"
	proxyPassword = "let/me@out"
	// credentialsFile is where it is written on the network's hosts.
	credentialsFile = ".proxy-credentials"
)

// httpProxy is an office's web proxy, as squid is mostly set up: CONNECT for
// everything but plain HTTP, whose requests it forwards without letting them
// upgrade. The zero value lets everybody out, to every port.
type httpProxy struct {
	password bool     // Basic (RFC 7617)
	ports    []uint16 // that CONNECT may reach; nil: all
}

func (p httpProxy) service() service {
	return service{name: "http-proxy", does: p.does(), proof: p.prove, ports: []uint16{httpPort}, start: func(r *router) error {
		r.local.addName(proxyName, r.addr)
		forward := &httputil.ReverseProxy{
			Rewrite:       func(q *httputil.ProxyRequest) { q.Out.Header.Add("Via", via) },
			Transport:     &http.Transport{DialContext: r.dial, DisableCompression: true},
			FlushInterval: -1,
			ErrorLog:      nobody,
		}
		return r.serveHTTP(httpPort, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			switch {
			case p.password && !authorized(q):
				w.Header().Set("Proxy-Authenticate", `Basic realm="`+proxyName+`"`)
				http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			case q.Method == http.MethodConnect:
				p.connect(w, q, r.dial)
			case q.URL.Scheme != "http":
				http.Error(w, "this is a proxy: it takes CONNECT, and http:// URLs", http.StatusBadRequest)
			default:
				stripUpgrade(q.Header)
				forward.ServeHTTP(w, q)
			}
		}))
	}}
}

func (p httpProxy) does() string {
	text := fmt.Sprintf("an HTTP proxy at %s:%d", proxyName, httpPort)
	if p.password {
		text += ", for who knows the password"
	}
	if p.ports != nil {
		text += ", CONNECT to port " + list(p.ports) + " only"
	}
	return text
}

// via is what a proxy signs requests with (RFC 9110, section 7.6.3).
const via = "1.1 " + proxyName

func authorized(q *http.Request) bool {
	// BasicAuth reads another header of the same form.
	user, password, ok := (&http.Request{Header: http.Header{"Authorization": q.Header["Proxy-Authorization"]}}).BasicAuth()
	return ok && user == proxyUser && password == proxyPassword
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func (p httpProxy) connect(w http.ResponseWriter, q *http.Request, dial dialFunc) {
	if !p.allows(q.Host) {
		http.Error(w, "CONNECT to "+q.Host+" is not allowed", http.StatusForbidden)
		return
	}
	out, err := dial(q.Context(), "tcp4", q.Host)
	if err != nil {
		status := http.StatusBadGateway
		if timedOut(err) {
			status = http.StatusGatewayTimeout
		}
		http.Error(w, err.Error(), status)
		return
	}
	in, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		out.Close()
		return
	}
	if _, err := fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		in.Close()
		out.Close()
		return
	}
	splice(in, early, out)
}

func (p httpProxy) allows(hostport string) bool {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	return p.ports == nil || slices.ContainsFunc(p.ports, func(n uint16) bool { return port == fmt.Sprint(n) })
}

// stripUpgrade takes from a request all that asks for another protocol.
func stripUpgrade(h http.Header) {
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version",
		"Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
		h.Del(name)
	}
}

// announced puts a proxy into the environment, as an office's system image does.
func announced(url string, names ...string) service {
	return service{name: "proxy-announced", does: "logins have " + names[0] + "=" + url, proof: func(t *trial) error {
		return proveAnnounced(t, url, names)
	}, equip: func(e *equipment, _ authorities) {
		for _, name := range names {
			e.Env = append(e.Env, name+"="+url)
		}
		const inside = "localhost,127.0.0.1,." + officeDomain
		e.Env = append(e.Env, "NO_PROXY="+inside, "no_proxy="+inside)
	}}
}

var (
	httpAnnounced  = announced(fmt.Sprintf("http://%s:%d", proxyName, httpPort), "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
	socksAnnounced = announced(fmt.Sprintf("socks5h://%s:%d", proxyName, socksPort), "ALL_PROXY", "all_proxy")
)

// credentials are on the host, but not in the proxy's URL.
var credentials = service{name: "proxy-credentials", does: "the proxy's user and password are in a file on the host", proof: proveCredentials, equip: func(e *equipment, _ authorities) {
	e.Files[credentialsFile] = proxyUser + ":" + proxyPassword + "\n"
	e.Env = append(e.Env, "WCE2E_PROXY_CREDENTIALS="+home+"/"+credentialsFile)
}}

// socksProxy is an office's SOCKS5 proxy (RFC 1928): CONNECT only, nobody is
// asked who they are.
var socksProxy = service{name: "socks-proxy", does: fmt.Sprintf("a SOCKS5 proxy at %s:%d", proxyName, socksPort), proof: proveSOCKS, ports: []uint16{socksPort}, start: func(r *router) error {
	r.local.addName(proxyName, r.addr)
	s, err := socks5.New(&socks5.Config{Dial: r.dial, Resolver: socksNames{r.world}, Logger: nobody})
	if err != nil {
		return err
	}
	at := netip.AddrPortFrom(r.addr, socksPort)
	l, err := r.ns.listen(at)
	if err != nil {
		return err
	}
	go func() { r.fail(fmt.Errorf("serve SOCKS on %s: %w", at, s.Serve(l))) }()
	return nil
}}

// socksNames resolves what socks5h:// clients leave to the proxy.
type socksNames struct{ zone *zone }

func (s socksNames) Resolve(ctx context.Context, name string) (context.Context, net.IP, error) {
	addr, ok := s.zone.lookup(name)
	if !ok {
		return ctx, nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return ctx, addr.AsSlice(), nil
}

// internal is an office's resolver: it knows the office, and sends nobody's
// questions out. The proxy asks for names, not its clients.
var internal = service{name: "internal-names", does: "the resolver knows the office's names only", proof: ofNames("internal-names", proveInternal), names: true,
	start: func(r *router) error { r.names = r.local.answer; return nil },
	equip: func(e *equipment, _ authorities) { e.Search = officeDomain },
}

// wpad announces the proxy by a PAC file where browsers look for it by
// themselves (Web Proxy Auto-Discovery: http://wpad.<domain>/wpad.dat).
var wpad = service{name: "wpad", does: "a PAC file at http://wpad." + officeDomain + "/wpad.dat names the proxy", proof: proveWPAD, ports: []uint16{80}, start: func(r *router) error {
	r.local.addName("wpad."+officeDomain, r.addr)
	r.local.addName("wpad", r.addr)
	files := http.NewServeMux()
	files.HandleFunc("GET /wpad.dat", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = fmt.Fprintf(w, pac, officeDomain, proxyName, httpPort)
	})
	return r.serveHTTP(80, files)
}}

// pac is what administrators copy from each other.
const pac = `function FindProxyForURL(url, host) {
  host = host.toLowerCase();
  if (isPlainHostName(host) || dnsDomainIs(host, ".%[1]s"))
    return "DIRECT";
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host) &&
      (isInNet(host, "127.0.0.0", "255.0.0.0") || isInNet(host, "192.168.0.0", "255.255.0.0")))
    return "DIRECT";
  if (shExpMatch(url, "ftp:*"))
    return "DIRECT";
  return "PROXY %[2]s:%[3]d";
}
`
