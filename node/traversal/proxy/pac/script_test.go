package pac

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// network is a Host with a few names, at a quarter past nine on a Wednesday.
func network() Host {
	names := map[string]string{"www.example.edu": "192.0.2.10", "six.example.edu": "2001:db8::1"}
	return Host{
		Address: netip.MustParseAddr("10.1.2.3"),
		Now:     time.Date(2026, time.November, 25, 9, 15, 30, 0, time.FixedZone("EST", -5*3600)),
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			if a, ok := names[name]; ok {
				return []netip.Addr{netip.MustParseAddr(a)}, nil
			}
			return nil, errors.New("no such name")
		},
	}
}

func find(t *testing.T, source string, of Host) ([]Way, error) {
	t.Helper()
	s, err := New([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return s.Find(t.Context(), "https://relay.example.org/", "relay.example.org", of)
}

func TestScriptSeesTheURLAndTheHost(t *testing.T) {
	t.Parallel()
	ways, err := find(t, `
		function FindProxyForURL(url, host) {
			if (url != "https://relay.example.org/" || host != "relay.example.org") return "DIRECT";
			return "PROXY proxy.example.edu:3128; SOCKS5 socks.example.edu; DIRECT";
		}`, network())
	want := []Way{{"http", "proxy.example.edu:3128"}, {"socks5", "socks.example.edu:1080"}, {}}
	if err != nil || !slices.Equal(ways, want) {
		t.Errorf("got %v, %v", ways, err)
	}
}

func TestStandardFunctions(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]bool{
		`isPlainHostName("www")`:                                                        true,
		`isPlainHostName("www.example.edu")`:                                            false,
		`dnsDomainIs("WWW.example.edu", ".example.edu")`:                                true,
		`dnsDomainIs("www.example.org", ".example.edu")`:                                false,
		`localHostOrDomainIs("www", "www.example.edu")`:                                 true,
		`localHostOrDomainIs("www.example.edu", "www.example.edu")`:                     true,
		`localHostOrDomainIs("ww", "www.example.edu")`:                                  false,
		`localHostOrDomainIs("www.example.org", "www.example.edu")`:                     false,
		`isResolvable("www.example.edu")`:                                               true,
		`isResolvable("nowhere.example.edu")`:                                           false,
		`dnsResolve("www.example.edu") == "192.0.2.10"`:                                 true,
		`dnsResolve("192.0.2.77") == "192.0.2.77"`:                                      true,
		`dnsResolve("nowhere.example.edu") === null`:                                    true,
		`dnsResolve("six.example.edu") === null`:                                        true,
		`isInNet("www.example.edu", "192.0.2.0", "255.255.255.0")`:                      true,
		`isInNet("192.0.3.10", "192.0.2.0", "255.255.255.0")`:                           false,
		`isInNet("nowhere.example.edu", "0.0.0.0", "0.0.0.0")`:                          false,
		`isInNet(myIpAddress(), "10.0.0.0", "255.0.0.0")`:                               true,
		`convert_addr("1.2.3.4") == 16909060`:                                           true,
		`dnsDomainLevels("www.example.edu") == 2`:                                       true,
		`shExpMatch("www.example.edu", "*.example.edu")`:                                true,
		`shExpMatch("www.example.edu", "*.ex?mple.*")`:                                  true,
		`shExpMatch("www.example.edu", "*.example")`:                                    false,
		`shExpMatch("www.example.edu", "www.example.edu")`:                              true,
		`shExpMatch("", "*")`:                                                           true,
		`shExpMatch("aXbXbc", "a*bc")`:                                                  true,
		`shExpMatch("a.b", "a?b") && !shExpMatch("ab", "a?b") && !shExpMatch("ab","a")`: true,
		`weekdayRange("WED")`:                                                           true,
		`weekdayRange("MON", "FRI")`:                                                    true,
		`weekdayRange("THU", "TUE")`:                                                    false,
		`weekdayRange("FRI", "WED", "GMT")`:                                             true,
		`weekdayRange("SOON")`:                                                          false,
		`timeRange(9)`:                                                                  true,
		`timeRange(9, "GMT")`:                                                           false, // it is 14:15 there
		`timeRange(14, "GMT")`:                                                          true,
		`timeRange(8, 17)`:                                                              true,
		`timeRange(22, 6)`:                                                              false,
		`timeRange(22, 10)`:                                                             true,
		`timeRange(9, 0, 9, 15)`:                                                        true,
		`timeRange(9, 16, 17, 0)`:                                                       false,
		`timeRange(9, 15, 30, 9, 15, 30)`:                                               true,
		`timeRange(9, 15, 31, 9, 15, 59)`:                                               false,
		`timeRange("noon")`:                                                             false,
		`timeRange()`:                                                                   false,
		`dateRange(25)`:                                                                 true,
		`dateRange(24)`:                                                                 false,
		`dateRange("NOV")`:                                                              true,
		`dateRange(2026)`:                                                               true,
		`dateRange(20, 26)`:                                                             true,
		`dateRange(26, 24)`:                                                             false,
		`dateRange("OCT", "FEB")`:                                                       true,
		`dateRange(2025, 2027)`:                                                         true,
		`dateRange(2027, 2025)`:                                                         false,
		`dateRange(1, "NOV", 24, "NOV")`:                                                false,
		`dateRange(24, "DEC", 25, "NOV")`:                                               true,
		`dateRange("JUN", 2026, "JAN", 2027)`:                                           true,
		`dateRange(25, "NOV", 2026, 25, "NOV", 2026)`:                                   true,
		`dateRange(26, "NOV", 2026, 25, "NOV", 2027, "GMT")`:                            false,
		`dateRange("NOV", 25)`:                                                          false,
		`dateRange("FLOREAL")`:                                                          false,
		`new Date().getTime() == Date.UTC(2026, 10, 25, 14, 15, 30)`:                    true,
	} {
		t.Run(condition, func(t *testing.T) {
			t.Parallel()
			e := evaluation{now: network().Now, address: "10.1.2.3", known: map[string]string{
				"www.example.edu": network().resolve(t.Context(), "www.example.edu"),
				"six.example.edu": network().resolve(t.Context(), "six.example.edu"), "nowhere.example.edu": "",
			}}
			answer, err := e.run(question{Script: `function FindProxyForURL() { return (` + condition + `) ? "yes" : "no" }`})
			if err != nil || (answer == "yes") != want {
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
}

func TestScriptAsksForNames(t *testing.T) {
	t.Parallel()
	ways, err := find(t, `
		function FindProxyForURL(url, host) {
			return "PROXY " + dnsResolve("www.example.edu") + ":1; PROXY " + dnsResolve("www.example.edu") + ":2;" +
				"PROXY " + dnsResolve("nowhere.example.edu") + ":3; HTTPS " + myIpAddress();
		}`, network())
	want := []Way{{"http", "192.0.2.10:1"}, {"http", "192.0.2.10:2"}, {"http", "null:3"}, {"https", "10.1.2.3:443"}}
	if err != nil || !slices.Equal(ways, want) {
		t.Errorf("got %v, %v", ways, err)
	}
}

// Each of these would take our own process with it, or never end.
func TestHostileScriptIsAnErrorAndNothingElse(t *testing.T) {
	t.Parallel()
	body := func(s string) string { return "function FindProxyForURL(url, host) { " + s + " }" }
	for name, source := range map[string]string{
		"brackets that overflow the parser's stack": body("") + strings.Repeat("(", MaxSize-100),
		"the same, later":                       body("return eval('('.repeat(1 << 20))"),
		"a chain that overflows the compiler's": body("return 1" + strings.Repeat("+1", MaxSize/2-100)),
		"recursion":                             body("return FindProxyForURL(url, host)"),
		"a loop":                                body("for (;;);"),
		"a regular expression that never ends":  body("return /^(?=a)(a+)+$/.test('" + strings.Repeat("a", 60) + "b')"),
		"memory":                                body("for (var s = url;;) s += s"),
		"more names than anybody needs":         body("for (var i = 0;; i++) dnsResolve('n' + i)"),
		"more answer than anybody needs":        body("return 'PROXY a:1;'.repeat(100000)"),
		"an exception":                          body("throw new Error('the cat')"),
		"no JavaScript":                         "<html>FindProxyForURL",
		"no function":                           "var FindProxyForURL = 1",
		"an answer that makes no sense":         body("return 'the cat'"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			s, err := New([]byte(source))
			if err != nil {
				t.Fatal(err)
			}
			ways, err := s.Find(t.Context(), "https://x/", "x", network())
			if err == nil {
				t.Errorf("it answered %v", ways)
			}
			if took := time.Since(began); took > 2*patience {
				t.Errorf("it took %v", took)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("its error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestScriptHasNothingButItself(t *testing.T) {
	t.Setenv("WCE2E_TEST_SECRET", "hunter2")
	ways, err := find(t, `
		function FindProxyForURL() {
			var there = [];
			["require", "process", "console", "fetch", "XMLHttpRequest", "WebSocket", "setTimeout"].forEach(function(n) {
				if (typeof globalThis[n] != "undefined") there.push(n);
			});
			return there.length ? there.join() : "DIRECT";
		}`, network())
	if err != nil || !slices.Equal(ways, []Way{{}}) {
		t.Errorf("got %v, %v", ways, err)
	}
}

func TestAskingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s, err := New([]byte(`function FindProxyForURL() { for (;;); }`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.Find(ctx, "https://x/", "x", Host{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not the deadline: %v", err)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("it took %v", took)
	}
}

func TestWhatCannotBeAScript(t *testing.T) {
	for name, source := range map[string]string{
		"a portal's page": "<html>Welcome to our hotel</html>",
		"nothing":         "",
		"too long":        "function FindProxyForURL() {}" + strings.Repeat(" ", MaxSize),
	} {
		if _, err := New([]byte(source)); err == nil {
			t.Errorf("%s was taken for a script", name)
		}
	}
}

func TestAnswers(t *testing.T) {
	for answer, want := range map[string][]Way{
		"":                               {{}},
		"DIRECT":                         {{}},
		" direct ;":                      {{}},
		"PROXY p:3128":                   {{"http", "p:3128"}},
		"PROXY p":                        {{"http", "p:80"}},
		"proxy p:8080; DIRECT":           {{"http", "p:8080"}, {}},
		"HTTPS p; SOCKS s; SOCKS5 s:9":   {{"https", "p:443"}, {"socks5", "s:1080"}, {"socks5", "s:9"}},
		"PROXY [2001:db8::1]:3128":       {{"http", "[2001:db8::1]:3128"}},
		"QUIC q:443; PROXY p:1":          {{"http", "p:1"}},
		"SOCKS4 s:1080":                  nil,
		"PROXY":                          nil,
		"PROXY p:0":                      nil,
		"PROXY p:65536":                  nil,
		"PROXY user:secret@p:3128":       nil,
		"PROXY http://p:3128/":           nil,
		strings.Repeat("PROXY p:1;", 99): slices.Repeat([]Way{{"http", "p:1"}}, maxWays),
	} {
		if got, err := ParseAnswer(answer); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", answer, got, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{"", "DIRECT", "PROXY p:3128; DIRECT", "SOCKS5 [::1]:1;HTTPS a", "PROXY ]:1", "PROXY a:b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		ways, err := ParseAnswer(answer)
		if (err == nil) == (len(ways) == 0) || len(ways) > maxWays {
			t.Fatalf("%d ways and the error %v", len(ways), err)
		}
		for _, w := range ways {
			if w.Direct() != (w.Address == "") {
				t.Fatalf("half a way: %+v", w)
			}
			again, err := ParseAnswer(keywordOf(w) + " " + w.Address)
			if err != nil || len(again) != 1 || again[0] != w {
				t.Fatalf("%+v is read again as %v, %v", w, again, err)
			}
		}
	})
}

func keywordOf(w Way) string {
	return map[string]string{"": "DIRECT", "http": "PROXY", "https": "HTTPS", "socks5": "SOCKS5"}[w.Scheme]
}

// The files that companies serve have grown for decades.
func TestLongScript(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("function FindProxyForURL(url, host) {\n")
	for range 8000 {
		b.WriteString("\tif (shExpMatch(host, \"*.site-of-a-department.example.edu\") || dnsDomainIs(host, \".x\")) return \"PROXY a:1\";\n")
	}
	b.WriteString("\treturn \"PROXY b:2\";\n}\n")
	ways, err := find(t, b.String(), network())
	if err != nil || !slices.Equal(ways, []Way{{"http", "b:2"}}) {
		t.Errorf("got %v, %v", ways, err)
	}
}

func TestNoProcessIsLeft(t *testing.T) {
	if _, err := os.Stat("/proc/self/task"); err != nil {
		t.Skipf("SKIPPED: the processes are read from /proc: %v", err)
	}
	_, _ = find(t, `function FindProxyForURL() { return "DIRECT" }`, network())
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		if children, err := os.ReadFile(f); err == nil && len(children) > 0 {
			t.Errorf("there are still %s", children)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	s, err := New([]byte(`function FindProxyForURL() { return "PROXY p:3128" }`))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Find(b.Context(), "https://x/", "x", Host{}); err != nil {
			b.Fatal(err)
		}
	}
}
