package onhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// Portal is where somebody logs in to a network. The zero Portal works.
type Portal struct {
	// Check is a page that portals intercept, and that answers 204 where none
	// stands in the way; empty means Android's.
	Check string
}

// LoggedIn is what LogIn has done.
type LoggedIn struct {
	Portal string `json:"portal"` // the page with the form that was sent
}

const (
	androidCheck = "http://connectivitycheck.gstatic.com/generate_204"
	// portalTimeout bounds a login: some page loads of a portal that is nearby.
	portalTimeout = 15 * time.Second
	// maxPage bounds what a portal can make us read, in bytes.
	maxPage = 1 << 20
)

// ErrNoPortal is that nothing stands between this machine and the internet.
var ErrNoPortal = errors.New("no captive portal is in the way")

// LogIn does at a captive portal what a person does in the window that pops up:
// it asks for a page that portals intercept, follows to theirs, and presses the
// button of the form there. A form that wants a name or a room number is left
// alone: there is nobody to ask. The error is ErrNoPortal where there is none,
// and one where the portal still stands in the way afterwards.
func (p Portal) LogIn(ctx context.Context) (LoggedIn, error) {
	if p.Check == "" {
		p.Check = androidCheck
	}
	ctx, cancel := context.WithTimeout(ctx, portalTimeout)
	defer cancel()
	// The portal is what is in the way, so no proxy is asked; each request is on a
	// connection of its own, since one from before the login may end at the portal.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	page, body, err := fetch(ctx, client, http.MethodGet, p.Check, nil)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("look for a captive portal: %w", err)
	}
	if page.StatusCode == http.StatusNoContent {
		return LoggedIn{}, ErrNoPortal
	}
	at := page.Request.URL
	form, err := button(body)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("log in at %s: %w", at, err)
	}
	action, err := at.Parse(form.action)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("log in at %s: its form leads nowhere: %w", at, err)
	}
	if _, _, err := fetch(ctx, client, http.MethodPost, action.String(), form.fields); err != nil {
		return LoggedIn{}, fmt.Errorf("log in at %s: %w", at, err)
	}
	after, _, err := fetch(ctx, client, http.MethodGet, p.Check, nil)
	if err == nil && after.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("it still answers in place of %s: %s", p.Check, after.Status)
	}
	if err != nil {
		return LoggedIn{}, fmt.Errorf("after the login at %s: %w", at, err)
	}
	return LoggedIn{Portal: at.String()}, nil
}

// fetch follows redirects, and gives the last answer with its page.
func fetch(ctx context.Context, client *http.Client, method, at string, fields url.Values) (*http.Response, string, error) {
	q, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(fields.Encode()))
	if err != nil {
		return nil, "", err
	}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	a, err := client.Do(q)
	if err != nil {
		return nil, "", err
	}
	defer a.Body.Close()
	page, err := io.ReadAll(io.LimitReader(a.Body, maxPage))
	if err == nil && a.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s answers %s", at, a.Status)
	}
	return a, string(page), err
}

// form is what is sent when somebody presses its button.
type form struct {
	action string
	fields url.Values
}

// button finds the one form of a page that takes no more than a press of its
// button, or an agreement.
func button(page string) (form, error) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return form{}, err
	}
	asked := ""
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" || !strings.EqualFold(attr(n, "method"), http.MethodPost) {
			continue
		}
		f := form{action: attr(n, "action"), fields: url.Values{}}
		if asked = f.fill(n); asked == "" {
			return f, nil
		}
	}
	if asked != "" {
		return form{}, fmt.Errorf("its form asks for %q, which nobody here knows", asked)
	}
	return form{}, errors.New("there is no form to send on its page")
}

// fill takes over what a form says by itself, and tells what else it asks for.
func (f form) fill(n *html.Node) (asked string) {
	for in := range n.Descendants() {
		if in.Type != html.ElementNode || in.Data != "input" {
			continue
		}
		name := attr(in, "name")
		switch kind := strings.ToLower(attr(in, "type")); {
		case name == "" || kind == "submit" || kind == "button":
		case kind == "hidden":
			f.fields.Set(name, attr(in, "value"))
		case kind == "checkbox": // I have read and accept
			value := attr(in, "value")
			if value == "" {
				value = "on"
			}
			f.fields.Set(name, value)
		default:
			asked = name
		}
	}
	return asked
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
