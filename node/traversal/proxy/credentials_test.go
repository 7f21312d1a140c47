package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// credentialsAt writes a file of credentials.
func credentialsAt(t *testing.T, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialsAreGivenWhenTheProxyAsks(t *testing.T) {
	t.Parallel()
	path := credentialsAt(t, 0o600, "# of the proxies", "other.example.edu user:other", "user:hunter2")
	for name, set := range map[string]func(*Finder, map[string]string){
		"by the URL": func(_ *Finder, env map[string]string) {
			env["HTTPS_PROXY"] = "http://user:hunter2@proxy.example.edu:3128"
		},
		"by a file":          func(f *Finder, _ map[string]string) { f.Credentials = path },
		"by the environment": func(_ *Finder, env map[string]string) { env[credentialsFile] = path },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &web{login: "user:hunter2"}
			n := corporate(t, w)
			env := withProxy()
			f := n.finder(env)
			set(f, env)
			dial(t, f, relay, proxyURL)
			_, before := w.saw()
			dial(t, f, relay, proxyURL)
			if _, after := w.saw(); len(after) != len(before)+1 {
				t.Errorf("the second dial took %d tries", len(after)-len(before))
			}
		})
	}
}

func TestProxyThatDoesNotAskGetsNoCredentials(t *testing.T) {
	t.Parallel()
	w := &web{}
	n := corporate(t, w)
	f := n.finder(withProxy())
	f.Credentials = credentialsAt(t, 0o600, "user:hunter2")
	dial(t, f, relay, proxyURL)
	if _, logins := w.saw(); !slices.Equal(logins, []string{""}) {
		t.Errorf("it was sent %q", logins)
	}
}

// Who answers for the network's DNS can announce a proxy of his own.
func TestAnnouncedProxyGetsOnlyCredentialsThatNameIt(t *testing.T) {
	t.Parallel()
	announced := server{scheme: "http", address: "proxy.example.edu:3128"}
	named := server{scheme: "http", address: "proxy.example.edu:3128", named: true}
	for name, c := range map[string]struct {
		lines string
		of    server
		want  login
	}{
		"a line for any, announced": {"user:any", announced, login{}},
		"a line for any, named":     {"user:any", named, login{"user", "any"}},
		"its host":                  {"user:any\nPROXY.example.edu user:its", announced, login{"user", "its"}},
		"its host and port":         {"proxy.example.edu:3128 user:its", announced, login{"user", "its"}},
		"another port":              {"proxy.example.edu:3129 user:other", announced, login{}},
		"another host":              {"other.example.edu user:other", named, login{}},
		"spaces and colons":         {"*  user:a b:c", named, login{"user", "a b:c"}},
		"no password":               {"user:", named, login{user: "user"}},
	} {
		entries, err := parseCredentials(c.lines)
		if got := choose(entries, c.of); got != c.want || err != nil {
			t.Errorf("%s: another login than expected (%v)", name, err)
		}
	}
}

func TestMistakesInTheCredentialsAreToldByTheirLine(t *testing.T) {
	t.Parallel()
	w := &web{login: "user:hunter2"}
	n := corporate(t, w)
	f := n.finder(withProxy())
	f.Credentials = credentialsAt(t, 0o644, "hunter1", "user:hunter2")
	dial(t, f, relay, proxyURL)
	for _, want := range []string{"line 1", "chmod 600"} {
		if !strings.Contains(n.logged(), want) {
			t.Errorf("%q is not in the log: %s", want, n.logged())
		}
	}
	if strings.Contains(n.logged(), "hunter") {
		t.Errorf("a password is in the log: %s", n.logged())
	}
}

func TestCredentialsShowNowhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env map[string]string
		w   *web
	}{
		"a login that is wrong":      {map[string]string{"HTTPS_PROXY": "http://user:hunter2@proxy.example.edu:3128"}, &web{login: "a:b"}},
		"a login over SOCKS":         {map[string]string{"ALL_PROXY": "socks5://user:hunter2@10.0.0.2:1080"}, &web{}},
		"a proxy that is not there":  {map[string]string{"HTTPS_PROXY": "http://user:hunter2@nowhere.example.edu:3128"}, &web{}},
		"a URL that is none":         {map[string]string{"HTTPS_PROXY": "http://user:hunter2#%zz@proxy.example.edu:3128"}, &web{}},
		"a URL of another kind":      {map[string]string{"HTTPS_PROXY": "ftp://user:hunter2@proxy.example.edu"}, &web{}},
		"a URL with a mistaken port": {map[string]string{"HTTPS_PROXY": "http://user:hunter2@proxy.example.edu:port"}, &web{}},
		"the URL of a script":        {map[string]string{pacURL: "http://user:hunter2@nowhere.example.edu/proxy.pac"}, &web{}},
		"a mistaken one":             {map[string]string{pacURL: "user:hunter2@nowhere.example.edu/proxy.pac"}, &web{}},
		"a path of a script":         {map[string]string{pacURL: "http://proxy.example.edu:3128/?password=hunter2"}, &web{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := corporate(t, c.w)
			n.lead("10.0.0.2:1080", serve(t, socksServer("user:secret", 0, new(string))))
			f := n.finder(c.env)
			err := fails(t, f, relay)
			var plans strings.Builder
			for _, a := range f.plan(relay) {
				fmt.Fprintf(&plans, "%v %+v", a, a)
			}
			s, _ := parseServer(c.env["HTTPS_PROXY"], "HTTPS_PROXY")
			said := fmt.Sprintf("%v\n%+v\n%#v\n%s\n%s\n%v %+v %#v %s %q", err, err, err, n.logged(), plans.String(), s, s, s.login, s.login, s.login)
			if strings.Contains(said, "hunter2") {
				t.Errorf("there is the password: %s", said)
			}
		})
	}
}

func FuzzParseCredentials(f *testing.F) {
	for _, seed := range []string{"", "user:password", "host user:password", "* user:pass word", "#\n\nhost:3128 u:p\r\n:", "a b c:d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseCredentials(text)
		if lines := strings.Count(text, "\n") + 1; len(entries) > lines {
			t.Fatalf("%d entries on %d lines", len(entries), lines)
		}
		for _, e := range entries {
			if e.login.user == "" || strings.Contains(e.login.user, ":") {
				t.Fatalf("an entry without a user: %q", text)
			}
		}
		if err != nil && len(err.Error()) > 100 {
			t.Fatalf("the error repeats the file: %v", err)
		}
	})
}

func FuzzSchemes(f *testing.F) {
	for _, seed := range []string{"", "Basic", `Basic realm="a, b", NTLM`, "Negotiate TlRM==", `a="`, "\x00,\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, challenge string) {
		got := schemes([]string{challenge, challenge})
		if len(got) > maxSchemes {
			t.Fatalf("%d schemes", len(got))
		}
		for _, s := range got {
			if s == "" || strings.ContainsAny(s, " \n\x00=\"") {
				t.Fatalf("%q is no scheme", s)
			}
		}
	})
}
