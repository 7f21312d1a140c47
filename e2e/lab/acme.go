//go:build linux

package lab

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The lab's certificate authority gives certificates by ACME (RFC 8555), as Let's
// Encrypt does, at https://acme.<zone>/dir: it is Pebble, which Let's Encrypt made
// for tests. Pebble connects to whom it certifies from goroutines of its own, so it
// is a process in the core's namespace; it starts when somebody first connects.
//
//	relay ── orders a certificate ──▶ acme.<zone>:443
//	      ◀── TLS-ALPN-01 or HTTP-01 ── is it really there?
//	      ◀── chain: relay ◀ Pebble's intermediate ◀ Pebble's root ◀ Lab Web Root
//
// Pebble makes a root of its own. What it hands out ends in a certificate for that
// root by the lab's web authority, so every host trusts it.

const (
	acmeName = "acme" // in the lab's zone
	acmePort = 443
)

var acmeAddr = netip.AddrFrom4([4]byte{9, 85, 55, 55})

// acmeOrders is all that the process is told.
type acmeOrders struct {
	Name     string // of the server
	Resolver netip.AddrPort
	Root     []byte // the web authority: its certificate, and its key in PKCS #8
	Key      []byte
}

// startACME listens, and has the process take over with the first client.
func (n *network) startACME(world *zone, fail func(error)) error {
	at := netip.AddrPortFrom(acmeAddr, acmePort)
	if err := n.core.edit(func(h *netlink.Handle) error { return addAddr(h, "lo", netip.PrefixFrom(acmeAddr, 32)) }); err != nil {
		return err
	}
	l, err := n.core.listen(at)
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File()
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	world.addA(acmeName, acmeAddr)
	go func() {
		defer f.Close()
		if err := errors.Join(awaitClient(f), n.runACME(f)); err != nil {
			fail(fmt.Errorf("serve ACME on %s: %w", at, err))
		}
	}()
	return nil
}

// awaitClient waits until somebody connects, and does not accept.
func awaitClient(listener *os.File) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(listener.Fd()), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// runACME runs the process to its end, which is that of the lab.
func (n *network) runACME(listener *os.File) error {
	key, err := x509.MarshalPKCS8PrivateKey(n.pki.web.key)
	if err != nil {
		return err
	}
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ordersW.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{acmeArg0}
	// As an authority that answers at once and is never at fault.
	cmd.Env = []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{ordersR, os.Stderr, listener}
	err = n.core.do(cmd.Start)
	if err := errors.Join(err, ordersR.Close()); err != nil {
		return err
	}
	tell := acmeOrders{Name: acmeName + "." + n.plan.Zone, Resolver: netip.AddrPortFrom(resolver, 53), Root: n.pki.web.cert.Raw, Key: key}
	if err := json.NewEncoder(ordersW).Encode(tell); err != nil {
		return err
	}
	return cmd.Wait()
}

// runAuthority is the process: it serves until lab init is gone.
func runAuthority() error {
	var o acmeOrders
	gone, err := orders(&o)
	if err != nil {
		return err
	}
	go func() {
		<-gone
		os.Exit(0)
	}()
	l, err := net.FileListener(os.NewFile(fdListener, "ACME"))
	if err != nil {
		return fmt.Errorf("take over the ACME socket: %w", err)
	}
	web, err := o.authority()
	if err != nil {
		return err
	}
	front, root := newPebble(o.Resolver)
	cross, err := web.vouch(root)
	if err != nil {
		return err
	}
	cert, err := web.issue(o.Name)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: endingIn(cross, front), TLSConfig: &tls.Config{Certificates: []tls.Certificate{*cert}},
		ErrorLog: nobody, ReadHeaderTimeout: clientPatience}
	return s.ServeTLS(l, "", "")
}

// authority is the web authority, as lab init has it.
func (o acmeOrders) authority() (*authority, error) {
	cert, err1 := x509.ParseCertificate(o.Root)
	key, err2 := x509.ParsePKCS8PrivateKey(o.Key)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key.(*ecdsa.PrivateKey)}, nil
}

// newPebble is Pebble's web front end, and its root.
func newPebble(resolver netip.AddrPort) (http.Handler, *x509.Certificate) {
	store := db.NewMemoryStore()
	issuer := ca.New(nobody, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	validator := va.New(nobody, 80, 443, false, resolver.String(), store)
	front := wfe.New(nobody, store, validator, issuer, nil, false, false, 1, 1)
	return front.Handler(), issuer.GetRootCert(0).Cert
}

// vouch is a certificate for another authority's root.
func (a *authority) vouch(root *x509.Certificate) ([]byte, error) {
	template := certificate(root.Subject.CommonName)
	template.Subject, template.SubjectKeyId = root.Subject, root.SubjectKeyId
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = root.KeyUsage
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, root.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("vouch for %s: %w", root.Subject, err)
	}
	return der, nil
}

// chainType is what certificates are sent as (RFC 8555, section 7.4.2).
const chainType = "application/pem-certificate-chain"

// endingIn adds a certificate to each chain that h sends.
func endingIn(cert []byte, h http.Handler) http.Handler {
	last := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h.ServeHTTP(w, q)
		if strings.HasPrefix(w.Header().Get("Content-Type"), chainType) {
			_, _ = w.Write(last) // behind what h wrote: whoever did not get that is gone
		}
	})
}
