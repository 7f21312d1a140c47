package onhost

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hotel is a portal in front of a check page: it redirects until the form of its
// page has been sent with what it wants.
func hotel(t *testing.T, form, wants string) Portal {
	t.Helper()
	opened := false
	pages := http.NewServeMux()
	pages.HandleFunc("/check", func(w http.ResponseWriter, q *http.Request) {
		if opened {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		http.Redirect(w, q, "/welcome", http.StatusFound)
	})
	pages.HandleFunc("GET /welcome", func(w http.ResponseWriter, q *http.Request) { w.Write([]byte("<p>Welcome!" + form)) })
	pages.HandleFunc("POST /in", func(w http.ResponseWriter, q *http.Request) {
		q.ParseForm()
		opened = q.PostForm.Encode() == wants
	})
	s := httptest.NewServer(pages)
	t.Cleanup(s.Close)
	return Portal{Check: s.URL + "/check"}
}

func TestAPortalOpensAtThePressOfItsButton(t *testing.T) {
	for name, c := range map[string]struct{ form, wants string }{
		"a button alone":       {`<form method=post action=/in><button>Log in</button></form>`, ""},
		"a token and a tick":   {`<form method="POST" action="in"><div><input type=hidden name=token value="a b"><input type=checkbox name=agree></div><input type=submit name=go></form>`, "agree=on&token=a+b"},
		"a search form before": {`<form action=/search><input name=q></form><form method=post action=/in></form>`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := hotel(t, c.form, c.wants)
			in, err := p.LogIn(t.Context())
			if err != nil || !strings.HasSuffix(in.Portal, "/welcome") {
				t.Errorf("%+v, %v", in, err)
			}
			if _, err := p.LogIn(t.Context()); !errors.Is(err, ErrNoPortal) {
				t.Errorf("a second time: %v, want %v", err, ErrNoPortal)
			}
		})
	}
}

func TestAPortalThatDoesNotOpenIsAnError(t *testing.T) {
	for want, c := range map[string]struct{ form, wants string }{
		`asks for "room"`:        {`<form method=post action=/in><input name=room></form>`, ""},
		"no form to send":        {`<a href=/in>log in</a>`, ""},
		"still answers in place": {`<form method=post action=/in></form>`, "a secret"},
		"answers 404":            {`<form method=post action=/out></form>`, ""},
	} {
		if _, err := hotel(t, c.form, c.wants).LogIn(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
