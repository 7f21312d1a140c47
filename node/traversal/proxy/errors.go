package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Failed is a dial with nothing to show for it.
type Failed struct {
	Target string
	Ways   []error // how each way failed, in the order in which they did
}

// failed lists the ways one by one. That the network announces no proxy is worth
// no word beside another failure.
func failed(target string, errs []error) *Failed {
	e := &Failed{Target: target}
	for _, err := range errs {
		if nested, ok := err.(several); ok {
			e.Ways = append(e.Ways, nested...)
		} else {
			e.Ways = append(e.Ways, err)
		}
	}
	if len(e.Ways) > 1 {
		e.Ways = slices.DeleteFunc(e.Ways, func(err error) bool { return errors.Is(err, errNothingAnnounced) })
	}
	return e
}

func (e *Failed) Error() string {
	ways := make([]string, len(e.Ways))
	for i, w := range e.Ways {
		ways[i] = w.Error()
	}
	return "dial " + e.Target + ": " + strings.Join(ways, "; ")
}

func (e *Failed) Unwrap() []error { return e.Ways }

// Refused is the answer of a proxy that does not let us through.
type Refused struct {
	Proxy   string   // its URL, without credentials
	Status  int      // HTTP's, of the answer to CONNECT; 0 for a SOCKS proxy
	Text    string   // the reason it gave
	Schemes []string // how it wants us to authenticate (with status 407): Basic is what we can
	Sent    bool     // credentials were sent, so they are wrong
}

func (e *Refused) Error() string {
	text := fmt.Sprintf("the proxy %s refuses", e.Proxy)
	if e.Status != 0 {
		text += fmt.Sprintf(" with %d", e.Status)
	}
	if e.Text != "" {
		text += " " + e.Text
	}
	return text + e.advice()
}

func (e *Refused) advice() string {
	wants := strings.Join(e.Schemes, ", ")
	switch {
	case e.Status != http.StatusProxyAuthRequired && e.Status != http.StatusUnauthorized:
		return ""
	case e.Sent: // tinyproxy then answers 401
		return ": it does not take the credentials that it was sent"
	case e.takesBasic():
		return ": it wants credentials (" + wants + "), and there are none for it"
	case wants == "":
		return ": it wants credentials, and does not say how"
	}
	return ": it wants " + wants + ", which is not supported (Basic is)"
}

// ProxyStatus is the HTTP status of the refusal; 0: the proxy spoke no HTTP.
func (e *Refused) ProxyStatus() int { return e.Status }

// Unreachable is a proxy that could not be asked, or did not answer.
type Unreachable struct {
	Proxy string // its URL, without credentials
	Err   error
}

func (e *Unreachable) Error() string { return fmt.Sprintf("through the proxy %s: %v", e.Proxy, e.Err) }
func (e *Unreachable) Unwrap() error { return e.Err }

// ProxyStatus is 0: there was no answer.
func (e *Unreachable) ProxyStatus() int { return 0 }

// printable keeps a stranger's text short and in one line.
func printable(text string) string {
	const most = 100
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), most)]
}
