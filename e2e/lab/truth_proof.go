//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// waysClaim is what a profile's truth says of relays. Plain sockets say on each
// way what a donor would begin with.
func (p Profile) waysClaim() claim {
	does := "no relay is reached"
	if len(p.Truth.Ways) > 0 {
		does = "relays are reached by " + strings.Join(p.Truth.Ways, ", ") + ", and by nothing else"
	}
	return claim{name: waysName, does: does, proof: proveWays}
}

const waysName = "truth"

func proveWays(t *trial) error {
	errs := make([]error, len(everyWay))
	var all sync.WaitGroup
	for i, way := range everyWay {
		all.Go(func() { errs[i] = t.reach(way, t.servers[i]) })
	}
	all.Wait()
	var wrong []error
	for i, way := range everyWay {
		switch passes := errs[i] == nil; {
		case passes && !slices.Contains(t.profile.Truth.Ways, way):
			wrong = append(wrong, fmt.Errorf("a relay is reached by %s", way))
		case !passes && slices.Contains(t.profile.Truth.Ways, way):
			wrong = append(wrong, fmt.Errorf("no relay is reached by %s: %w", way, errs[i]))
		case passes:
			t.saw("%s passes", way)
		default:
			t.saw("%s: %s", way, firstLine(errs[i]))
		}
	}
	return errors.Join(wrong...)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// reach is nil when what a donor begins with on a way, and what a relay answers,
// arrives.
func (t *trial) reach(way string, relay place) error {
	switch way {
	case wayTCP:
		return t.reachTCP(relay)
	case wayQUIC, wayWebTransport:
		return t.reachQUIC(relay)
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	f, err := t.shakeBy(t.webRoute, relay, 443, cert, relay.addr.String(), "http/1.1")
	if err != nil {
		return err
	}
	// A relay states its certificate: another one is an interceptor's, which a donor
	// lets pass where its machine trusts it.
	if string(f.shown.Raw) != string(cert.Certificate[0]) {
		if err := t.trusts(f.shown, relay.addr.String()); err != nil {
			return err
		}
	}
	if way == wayHTTPS {
		return f.asksAndAnswers()
	}
	if err := f.seesUpgrade(); err != nil {
		return err
	}
	return f.hold(dialogue{{listener, manyBytes}})
}

func (t *trial) reachTCP(relay place) error {
	l, err := t.listen(relay, 4001)
	if err != nil {
		return err
	}
	defer l.Close()
	near, err := t.rawRoute(relay.at(4001))
	if err != nil {
		return err
	}
	far, err := t.accept(l, answerWait)
	if err != nil {
		return err
	}
	return flow{near, far}.hold(slices.Concat(libp2pNoise, dialogue{{dialler, "\x00\x05after"}, {listener, manyBytes}}))
}

// manyBytes are more than a network lets pass that only seems to let things pass.
var manyBytes = strings.Repeat("x", 32<<10)

func (t *trial) reachQUIC(relay place) error {
	far, err := t.packets(relay, 4001, netip.AddrPort{})
	if err != nil {
		return err
	}
	near, err := t.packets(t.host, 0, relay.at(4001))
	if err != nil {
		return err
	}
	// An Initial packet of the size that QUIC's most used library for Go begins with.
	initial := "\xc3\x00\x00\x00\x01" + strings.Repeat("x", 1280-5)
	got, from, err := near.pass(far, initial, answerWait)
	if err != nil || got != initial {
		return fmt.Errorf("QUIC's first packet does not arrive: %w", err)
	}
	far.peer = from
	const short = "\x43 and so on"
	return errors.Join(far.says(near, initial), near.says(far, short), far.says(near, short))
}

// asksAndAnswers is nil when an ordinary request passes, and its answer.
func (f flow) asksAndAnswers() error {
	if err := f.near.write("POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 4\r\n\r\nping"); err != nil {
		return err
	}
	if _, err := f.far.receive("ping"); err != nil {
		return err
	}
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%spong", len(manyBytes)+len("pong"), manyBytes)
	if err := f.far.write(answer); err != nil {
		return err
	}
	_, err := f.near.receive("pong")
	return err
}

// rawRoute connects as a host's programs do that speak no HTTP.
func (t *trial) rawRoute(to netip.AddrPort) (*end, error) {
	if t.equipment.variable("ALL_PROXY") == "" {
		// Small packets pass everywhere, and donors find out that they have to make them.
		return t.dial(t.host, 0, to, answerWait, maxSegment(1000))
	}
	e, status, err := t.socks(to.Addr().String(), to.Port())
	if err == nil && status != 0 {
		err = fmt.Errorf("the SOCKS proxy answers with status %d", status)
	}
	return e, err
}

// webRoute connects as a host's programs do that speak HTTP: by the proxy that
// the environment names, or else a PAC file.
func (t *trial) webRoute(to netip.AddrPort) (*end, error) {
	announced := slices.ContainsFunc(t.profile.services, func(s service) bool { return s.name == wpad.name })
	if !announced && t.equipment.variable("HTTPS_PROXY") == "" {
		return t.rawRoute(to)
	}
	var headers []string
	if user, password, ok := strings.Cut(strings.TrimSpace(t.equipment.Files[credentialsFile]), ":"); ok {
		headers = append(headers, basic(user, password))
	}
	e, r, err := t.connect(to.String(), headers...)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != 200 {
		return nil, fmt.Errorf("the proxy answers with %s", r.Status)
	}
	return e, nil
}
