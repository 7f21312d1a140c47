package names

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The tests below run in a bubble whose clock jumps, so that they take no time
// and can be exact about it.

const (
	boot   = "boot.example.org"
	public = "11.0.0.1"
	other  = "11.0.0.2"
	inside = "10.0.0.1"
)

// says is a source's behaviour: after so long, these values, or this error.
type says struct {
	after  time.Duration
	values []string
	err    error
	deaf   bool // to the end of its context
}

var (
	silent  = says{after: time.Hour}
	denies  = says{after: 10 * time.Millisecond, err: notFound(question{boot, IP}, "test")}
	refuses = says{after: 10 * time.Millisecond, err: errors.New("refused")}
)

func answer(after time.Duration, values ...string) says { return says{after: after, values: values} }

func (s says) ask(ctx context.Context, _ question) ([]string, error) {
	done := ctx.Done()
	if s.deaf {
		done = nil
	}
	select {
	case <-time.After(s.after):
		return s.values, s.err
	case <-done:
		return nil, ctx.Err()
	}
}

// system makes a says the network's DNS.
type system struct{ says }

func (s system) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	return s.ask(ctx, question{})
}

func (s system) LookupIPAddr(ctx context.Context, _ string) ([]net.IPAddr, error) {
	values, err := s.ask(ctx, question{})
	var out []net.IPAddr
	for _, v := range values {
		out = append(out, net.IPAddr{IP: net.ParseIP(v)})
	}
	return out, err
}

// among is a Resolver with a system and servers of the given behaviour, and
// what it tells of them.
func among(network says, first, rest []says) (*Resolver, *[]Answer) {
	var told []Answer
	r := &Resolver{System: system{network}, Servers: []Server{}, Answered: func(a Answer) { told = append(told, a) }}
	r.setUp()
	servers := func(behaviours []says, prefix string) []source {
		var out []source
		for i, b := range behaviours {
			out = append(out, source{name: prefix + string(rune('1'+i)), proven: true, ask: b.ask})
		}
		return out
	}
	r.first, r.rest = servers(first, "first "), servers(rest, "rest ")
	return r, &told
}

func addresses(ctx context.Context, r *Resolver, name string) ([]string, error) {
	found, err := r.LookupIPAddr(ctx, name)
	var out []string
	for _, a := range found {
		out = append(out, a.String())
	}
	return out, err
}

// used is the source of the answer that a lookup returned, and all that were asked.
func used(told []Answer) (source string, asked []string) {
	for _, a := range told {
		asked = append(asked, a.Source)
		if a.Used {
			source += a.Source
		}
	}
	return source, asked
}

func TestWhoAnswersFirstAndWellIsBelieved(t *testing.T) {
	for _, c := range []struct {
		what    string
		network says
		first   []says
		rest    []says
		source  string // "": not found
		value   string
		took    time.Duration
		asked   int
	}{
		{"a system that answers is the only one asked",
			answer(299*time.Millisecond, public), []says{answer(0, other)}, nil, "system", public, 299 * time.Millisecond, 1},
		{"a silent system costs its head start and no more",
			silent, []says{answer(20*time.Millisecond, other)}, nil, "first 1", other, 320 * time.Millisecond, 2},
		{"a system that hangs whatever its context says holds nothing up",
			says{after: 20 * time.Second, deaf: true}, []says{answer(20*time.Millisecond, other)}, nil, "first 1", other, 320 * time.Millisecond, 2},
		{"a slow system still wins against slower servers",
			answer(500*time.Millisecond, public), []says{silent, silent}, nil, "system", public, 500 * time.Millisecond, 3},
		{"a system that fails passes on at once",
			refuses, []says{answer(20*time.Millisecond, other)}, nil, "first 1", other, 30 * time.Millisecond, 2},
		{"a censor's denial is refuted",
			denies, []says{answer(20*time.Millisecond, other), silent}, nil, "first 1", other, 30 * time.Millisecond, 3},
		{"an answer without values is a denial",
			answer(0), []says{answer(20*time.Millisecond, other)}, nil, "first 1", other, 20 * time.Millisecond, 2},
		{"a filtering server's denial is refuted",
			denies, []says{denies, answer(50*time.Millisecond, other)}, nil, "first 2", other, 60 * time.Millisecond, 3},
		{"a made-up answer is refuted",
			answer(0, inside), []says{answer(20*time.Millisecond, other)}, nil, "first 1", other, 20 * time.Millisecond, 2},
		{"an address that is private indeed is confirmed",
			answer(0, inside), []says{answer(20*time.Millisecond, inside)}, nil, "first 1", inside, 20 * time.Millisecond, 2},
		{"one public address among private ones is good",
			answer(0, inside, public), []says{answer(0, other)}, nil, "system", inside, 0, 1},
		{"a name that only the local network knows is found there",
			answer(0, inside), []says{denies, silent}, nil, "system", inside, settleAfter, 3},
		{"a name that only the local network knows is found there at once when all others deny it",
			answer(0, inside), []says{denies, denies, silent}, nil, "system", inside, 10 * time.Millisecond, 4},
		{"a late local answer is waited for when the world denies the name",
			answer(900*time.Millisecond, inside), []says{denies, denies}, nil, "system", inside, 900 * time.Millisecond, 3},
		{"what looks made up is used where nobody else can be reached",
			answer(0, inside), []says{silent}, []says{silent}, "system", inside, settleAfter, 3},
		{"the rest is asked at once when the first fail",
			refuses, []says{refuses, refuses}, []says{answer(20*time.Millisecond, other)}, "rest 1", other, 40 * time.Millisecond, 4},
		{"the rest is asked when the first fail, however silent the system is",
			silent, []says{refuses}, []says{answer(20*time.Millisecond, other)}, "rest 1", other, 330 * time.Millisecond, 3},
		{"the rest is asked when the first are silent",
			refuses, []says{silent}, []says{answer(20*time.Millisecond, other)}, "rest 1", other, 1530 * time.Millisecond, 3},
		{"all who answer agree that there is no such name",
			denies, []says{denies, denies, silent}, []says{silent}, "", "", 20 * time.Millisecond, 4},
		{"one server and the system suffice for a denial where the others fail",
			denies, []says{refuses, denies}, []says{silent}, "", "", 20 * time.Millisecond, 3},
		{"a denial waits for a silent system, but not for long",
			silent, []says{denies, denies}, []says{silent}, "", "", 310*time.Millisecond + settleAfter, 3},
		{"nobody else is asked while a denial waits",
			silent, []says{denies, {after: 5 * time.Second}}, []says{silent}, "", "", 310*time.Millisecond + settleAfter, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // who is deaf ends as well
				r, told := among(c.network, c.first, c.rest)
				began := time.Now()
				got, err := addresses(t.Context(), r, boot)
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, not %v", took, c.took)
				}
				if source, asked := used(*told); source != c.source || len(asked) != c.asked {
					t.Errorf("of %q, %q was used", asked, source)
				}
				if c.source == "" {
					if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound || dns.Name != boot {
						t.Errorf("error %v", err)
					}
				} else if err != nil || got[0] != c.value {
					t.Errorf("got %q, %v", got, err)
				}
			})
		})
	}
}

func TestWhoIsAskedIsToldOfOnceWithAnOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := among(silent, []says{refuses, answer(20*time.Millisecond, other), silent}, []says{silent})
		if _, err := addresses(t.Context(), r, boot); err != nil {
			t.Fatal(err)
		}
		_, asked := used(*told)
		if want := []string{"system", "first 1", "first 2", "first 3"}; !slices.Equal(asked, want) {
			t.Fatalf("told of %q", asked)
		}
		for i, a := range *told {
			if (a.Err == nil) != (i == 2) || a.Used != (i == 2) || a.Name != boot || a.Type != IP {
				t.Errorf("%+v", a)
			}
			if notWaitedFor := i == 0 || i == 3; errors.Is(a.Err, context.Canceled) != notWaitedFor {
				t.Errorf("%+v", a)
			}
		}
		if took := (*told)[0].Took; took != 320*time.Millisecond {
			t.Errorf("the system took %v", took)
		}
	})
}

func TestLateSystemGetsNoHeadStartForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := among(silent, []says{answer(20*time.Millisecond, other)}, nil)
		for i, want := range []time.Duration{320 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond} {
			began := time.Now()
			if _, err := addresses(t.Context(), r, boot); err != nil || time.Since(began) != want {
				t.Errorf("lookup %d took %v, %v", i, time.Since(began), err)
			}
		}
		time.Sleep(lateFor)
		began := time.Now()
		if _, err := addresses(t.Context(), r, boot); err != nil || time.Since(began) != 320*time.Millisecond {
			t.Errorf("a minute later: %v, %v", time.Since(began), err)
		}
	})
}

func TestSystemThatRecoversIsTrustedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := among(silent, []says{answer(20*time.Millisecond, other)}, nil)
		_, err := addresses(t.Context(), r, boot)
		r.System = system{answer(10*time.Millisecond, public)}
		for range 2 {
			*told = nil
			_, err2 := addresses(t.Context(), r, boot)
			err = errors.Join(err, err2)
		}
		if source, asked := used(*told); err != nil || source != "system" || len(asked) != 1 {
			t.Errorf("of %q, %q was used: %v", asked, source, err)
		}
	})
}

func TestNothingAnswersWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := among(silent, []says{silent, refuses}, []says{silent})
		began := time.Now()
		_, err := addresses(t.Context(), r, boot)
		dns, ok := errors.AsType[*net.DNSError](err)
		if !ok || !dns.IsTimeout || time.Since(began) != lookupTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if source, asked := used(*told); source != "" || len(asked) != 4 {
			t.Errorf("of %q, %q was used", asked, source)
		}
	})
}

func TestEndOfTheContextEndsALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Minute)
		hung := says{after: 20 * time.Second, deaf: true}
		r, told := among(hung, []says{hung}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := addresses(ctx, r, boot)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 400*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if len(*told) != 2 {
			t.Errorf("told of %+v", *told)
		}
	})
}

func TestNamesOfALocalNetworkStayThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"relay", "relay.local", "Relay.LAN.", "a.home.arpa", "x.internal", "localhost"} {
			r, told := among(answer(time.Second, inside), []says{answer(0, other)}, nil)
			got, err := addresses(t.Context(), r, name)
			if _, asked := used(*told); err != nil || got[0] != inside || len(asked) != 1 {
				t.Errorf("%s: %q of %q, %v", name, got, asked, err)
			}
			if got, err := r.Encrypted().LookupIPAddr(t.Context(), name); err == nil {
				t.Errorf("%s: the world said %v", name, got)
			}
		}
	})
}

func TestSecondOpinionLeavesTheSystemOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := among(answer(0, public), []says{answer(20*time.Millisecond, other)}, nil)
		got, err := r.Encrypted().LookupIPAddr(t.Context(), boot)
		if err != nil || got[0].String() != other {
			t.Errorf("got %v, %v", got, err)
		}
		if source, asked := used(*told); source != "first 1" || len(asked) != 1 {
			t.Errorf("of %q, %q was used", asked, source)
		}
		r, _ = among(answer(0, public), []says{denies, silent}, nil)
		_, err = r.Encrypted().LookupTXT(t.Context(), boot)
		if !isNotFound(err) {
			t.Errorf("a denial: %v", err)
		}
	})
}

func TestTextsThatAreNotWhatWasAskedForAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := "dnsaddr=/ip4/11.0.0.1/tcp/4001"
		r, told := among(answer(0, "v=portal"), []says{answer(20*time.Millisecond, good)}, nil)
		got, err := r.LookupTXT(t.Context(), "_dnsaddr."+boot)
		if err != nil || !slices.Equal(got, []string{good}) || !(*told)[0].Doubtful {
			t.Errorf("got %q, %v of %+v", got, err, *told)
		}
		got, err = r.LookupTXT(t.Context(), boot)
		if err != nil || !slices.Equal(got, []string{"v=portal"}) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestLastGoodAnswerIsUsedWhenNothingElseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "names.json")
		r, _ := among(answer(0, public), nil, nil)
		r.cache.path = file
		if _, err := addresses(t.Context(), r, boot); err != nil {
			t.Fatal(err)
		}
		learnt := time.Now()
		time.Sleep(24 * time.Hour)
		for _, c := range []struct {
			what    string
			network says
			first   []says
			took    time.Duration
			source  string
		}{
			{"all silent", silent, []says{silent}, staleAfter, "cache"},
			{"all refuse", refuses, []says{refuses}, 20 * time.Millisecond, "cache"},
			{"the system denies, and nobody can be asked", denies, []says{refuses}, 20 * time.Millisecond, "cache"},
			{"made up, and nobody can be asked", answer(0, inside), []says{refuses}, 10 * time.Millisecond, "cache"},
			{"a new answer", refuses, []says{answer(time.Second, other)}, 1010 * time.Millisecond, "first 1"},
			{"all deny", denies, []says{denies, denies}, 20 * time.Millisecond, ""},
			{"servers deny, and the system is silent", silent, []says{denies, denies}, 310*time.Millisecond + settleAfter, ""},
		} {
			r, told := among(c.network, c.first, nil)
			r.cache.path = file
			began := time.Now()
			got, err := addresses(t.Context(), r, boot)
			source, _ := used(*told)
			if source != c.source || (err == nil) != (c.source != "") || time.Since(began) != c.took {
				t.Errorf("%s: %q from %q after %v, %v", c.what, got, source, time.Since(began), err)
			}
			if last := (*told)[len(*told)-1]; source == "cache" && (!last.Since.Equal(learnt) || got[0] != public) {
				t.Errorf("%s: %+v", c.what, last)
			}
		}
	})
}

func TestDoubtfulAnswersAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := among(answer(0, inside), []says{refuses}, nil)
		if _, err := addresses(t.Context(), r, boot); err != nil {
			t.Fatal(err)
		}
		r.System = system{refuses}
		if got, err := addresses(t.Context(), r, boot); err == nil {
			t.Errorf("remembered %q", got)
		}
	})
}

func TestSystemIsAskedForWholeNames(t *testing.T) {
	for name, want := range map[string]string{boot: boot + ".", boot + ".": boot + ".", "relay": "relay"} {
		var n named
		r := &Resolver{System: &n, Servers: []Server{}}
		_, err := r.LookupTXT(t.Context(), name)
		_, err2 := r.LookupIPAddr(t.Context(), name)
		if err = errors.Join(err, err2); err != nil || !slices.Equal(n, []string{want, want}) {
			t.Errorf("%s: asked for %q, %v", name, n, err)
		}
	}
}

// named is a system that keeps the names that it is asked for.
type named []string

func (n *named) LookupTXT(_ context.Context, name string) ([]string, error) {
	*n = append(*n, name)
	return []string{"text"}, nil
}

func (n *named) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	*n = append(*n, name)
	return []net.IPAddr{{IP: net.ParseIP(public)}}, nil
}

func TestAddressesAndNonsenseNeedNobody(t *testing.T) {
	r, told := among(silent, []says{silent}, nil)
	for _, ip := range []string{"11.0.0.1", "2a00::1", "fe80::1%eth0"} {
		if got, err := addresses(t.Context(), r, ip); err != nil || !slices.Equal(got, []string{ip}) {
			t.Errorf("%s: %q, %v", ip, got, err)
		}
	}
	for _, name := range []string{"", "a..example", string(make([]byte, 300))} {
		if got, err := r.LookupTXT(t.Context(), name); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
	if len(*told) != 0 {
		t.Errorf("told of %+v", *told)
	}
}
