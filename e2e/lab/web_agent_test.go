//go:build linux

package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// seen is what an answer has of TLS and HTTP.
type seen struct {
	Issuer     string
	Unverified string // why the certificate does not verify against the host's trust store
	Status     int
	Proto      string
	Location   string
}

// tlsListener shakes hands by itself, since an agent has one order at a time and
// handshakes need both ends.
type tlsListener struct {
	net.Listener
	ready chan net.Conn
	until time.Time
}

func listenTLS(addr string, public bool) (net.Listener, error) {
	var cert *tls.Certificate
	if public {
		c, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		cert = &c
	} else {
		self, err := newAuthority("self")
		if err != nil {
			return nil, err
		}
		cert = &tls.Certificate{Certificate: [][]byte{self.cert.Raw}, PrivateKey: self.key}
	}
	inner, err := tls.Listen("tcp4", addr, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1", "libp2p"}})
	if err != nil {
		return nil, err
	}
	l := &tlsListener{Listener: inner, ready: make(chan net.Conn, 16)}
	go func() {
		for {
			c, err := inner.Accept()
			if err != nil {
				return
			}
			go func() {
				if c.(*tls.Conn).Handshake() == nil {
					l.ready <- c
				}
			}()
		}
	}()
	return l, nil
}

func (l *tlsListener) SetDeadline(t time.Time) error { l.until = t; return nil }

func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-time.After(time.Until(l.until)):
		return nil, os.ErrDeadlineExceeded
	}
}

// dialTLS shakes hands with anybody, and tells what the host's trust store says
// of the certificate.
func (o order) dialTLS(a *answer) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: o.Name, NextProtos: o.ALPN, InsecureSkipVerify: true}}
	c, err := d.DialContext(ctx, "tcp4", o.Addr)
	if err != nil {
		return nil, err
	}
	leaf := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	a.Issuer = leaf.Issuer.CommonName
	name := o.Name
	if name == "" {
		name, _, _ = net.SplitHostPort(o.Addr)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name}); err != nil {
		a.Unverified = err.Error()
	}
	return c, nil
}

// fetch asks for a URL as most Go programs would, and follows no redirect.
func (o order) fetch(a *answer) error {
	q, err := http.NewRequest(o.Method, o.Addr, bytes.NewReader(o.Data))
	if err != nil {
		return err
	}
	for name, value := range o.Headers {
		q.Header.Set(name, value)
	}
	c := http.Client{
		Timeout:       o.Timeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := c.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	a.Status, a.Proto, a.Location = r.StatusCode, r.Proto, r.Header.Get("Location")
	if r.TLS != nil {
		a.Issuer = r.TLS.PeerCertificates[0].Issuer.CommonName
	}
	a.Data, err = io.ReadAll(r.Body)
	return err
}
