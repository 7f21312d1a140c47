package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ms turns milliseconds into a Duration, whatever a file claims they are.
func ms(v float64) time.Duration {
	const most = float64(math.MaxInt64 / 2)
	return time.Duration(max(-most, min(most, v*float64(time.Millisecond))))
}

// millis writes a number of milliseconds with its unit.
func millis(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10_000:
		return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64) + " ms"
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + " ms"
}

// span writes a time span as a person says it: 10 min, 23.4 s, 12 ms.
func span(d time.Duration) string {
	switch a := d.Abs(); {
	case a >= time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d/time.Hour), int(a%time.Hour/time.Minute))
	case a >= time.Minute && a%time.Minute < time.Second:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case a >= time.Minute:
		return fmt.Sprintf("%d min %02d s", int(d/time.Minute), int(a%time.Minute/time.Second))
	case a >= time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + " s"
	case a == 0:
		return "0 s"
	}
	return millis(float64(d) / float64(time.Millisecond))
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// since is the time of a line, from the start of the run.
func (s *story) since(t time.Time) string {
	return fmt.Sprintf("%+.3f s", t.Sub(s.from).Seconds())
}

// who names a peer: the host it is, if it is one of the run's, and the end of
// its ID, which is the part that differs.
func (s *story) who(peer string) string {
	short := tail(peer, 8)
	if name := s.names[peer]; name != "" {
		return name + " (" + short + ")"
	}
	return short
}

// nameOf is who in one word.
func (s *story) nameOf(peer string) string {
	if name := s.names[peer]; name != "" {
		return name
	}
	return tail(peer, 8)
}

func tail(s string, n int) string {
	if r := []rune(s); len(r) > n+2 {
		return "…" + string(r[len(r)-n:])
	}
	return s
}

var peerInAddr = regexp.MustCompile(`/p2p/[A-Za-z0-9]{20,}`)

// shortAddr leaves of the peer IDs in a multiaddr the part that differs.
func shortAddr(addr string) string {
	return peerInAddr.ReplaceAllStringFunc(addr, func(p string) string { return "/p2p/" + tail(strings.TrimPrefix(p, "/p2p/"), 8) })
}

func head(s string, n int) string {
	if r := []rune(s); len(r) > n+1 {
		return string(r[:n]) + "…"
	}
	return s
}

// or is s, or what stands for an empty one.
func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d B", bytes)
}
