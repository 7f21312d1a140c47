package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// made changes the donor's reservation.made.
func (s *story) made(change func(*wire.Event)) {
	s.said(donorName, wire.ReservationMade, func(e *wire.Event) bool { change(e); return true })
}

// listened changes or drops the donor's circuit addresses.
func (s *story) listened(change func(*wire.Event) bool) {
	s.said(donorName, wire.ListenAddr, func(e *wire.Event) bool { return e.Relay == "" || change(e) })
}

func TestAReservationIsOnRecordAtBothEnds(t *testing.T) {
	logged := func(change func(string) string) func(*story) {
		return func(s *story) { s.logs[donorName] = change(string(s.input(t).Logs[donorName])) }
	}
	judgeClauses(t, evidence.Reservation, passing, []clause{
		{"the donor tells of none", func(s *story) { s.said(donorName, wire.ReservationMade, gone) }, inconclusive, "The reservation: not in the trace"},
		{"renewals only", func(s *story) { s.made(func(e *wire.Event) { e.Renewal = true }) }, inconclusive, "tells of renewals only"},
		{"at no relay", func(s *story) { s.made(func(e *wire.Event) { e.Relay = "" }) }, inconclusive, "does not say at which relay"},
		{"no circuit address", func(s *story) { s.listened(gone) }, inconclusive, "no circuit address through relay1"},
		{"a circuit address through another relay", func(s *story) {
			s.listened(func(e *wire.Event) bool { e.Addr = strings.ReplaceAll(e.Addr, relayID, strangerID); return true })
		}, inconclusive, "no circuit address through relay1"},
		{"a circuit address of another peer", func(s *story) {
			s.listened(func(e *wire.Event) bool { e.Addr = strings.ReplaceAll(e.Addr, donorID, strangerID); return true })
		}, inconclusive, "no circuit address through relay1"},
		{"a circuit address that names nobody", func(s *story) {
			s.listened(func(e *wire.Event) bool { e.Addr = strings.TrimSuffix(e.Addr, "/p2p/"+donorID); return true })
		}, inconclusive, "no circuit address through relay1"},
		{"an address without a circuit", func(s *story) {
			s.listened(func(e *wire.Event) bool { e.Addr = strings.Replace(e.Addr, "/p2p-circuit", "", 1); return true })
		}, inconclusive, "no circuit address through relay1"},
		{"the log does not name the address", logged(func(log string) string {
			return strings.ReplaceAll(log, "NewListenAddr("+circuitAddr, "NewListenAddr(")
		}), fail, "no line NewListenAddr(" + circuitAddr},
		{"the log names it as something else", logged(func(log string) string {
			return strings.ReplaceAll(log, "NewListenAddr("+circuitAddr, "NewExternalAddr("+circuitAddr)
		}), fail, "no line NewListenAddr("},
		{"the log was cut where it may have been", func(s *story) {
			s.logs[donorName] = "cut"
			s.tweak[donorName] = func(f *evidence.LogFile) { f.Size += 100 }
		}, inconclusive, "What there is of the log"},
		{"no log", func(s *story) { s.noLog[donorName] = true }, inconclusive, "There is no log of tensor02"},
		{"the relay has no record", func(s *story) { s.said(relayName, wire.RelayReservation, gone) }, fail, "relay1 has no record of that"},
		{"the relay's record is of another peer", func(s *story) {
			s.said(relayName, wire.RelayReservation, func(e *wire.Event) bool { e.Peer = submitterID; return true })
		}, fail, "relay1 has no record of that"},
		{"the relay's record is a refusal", func(s *story) {
			s.said(relayName, wire.RelayReservation, func(e *wire.Event) bool { e.Outcome = wire.Failed; return true })
		}, fail, "relay1 has no record of that"},
		{"the records disagree about its end", func(s *story) {
			s.said(relayName, wire.RelayReservation, func(e *wire.Event) bool { e.Expires = e.Expires.Add(time.Minute); return true })
		}, fail, "The records disagree"},
		{"the relay says nothing at all", func(s *story) {
			s.each(func(it *item) bool { _, said := it.data.(*wire.Event); return !said || it.host != relayName })
		}, inconclusive, "no events of the relay relay1"},
		{"a voucher that is not the relay's", func(s *story) {
			s.made(func(e *wire.Event) { e.Voucher = voucher(strangerKey, relayID, donorID, e.Expires) })
		}, fail, "it is signed by"},
	})
}

func TestAStrangersRelayIsBelievedByItsSignature(t *testing.T) {
	with := func(make func(e *wire.Event) []byte) func(*story) {
		return func(s *story) { s.made(func(e *wire.Event) { e.Voucher = make(e) }) }
	}
	judgeClauses(t, evidence.Reservation, strangersRelay, []clause{
		{"no voucher", with(func(*wire.Event) []byte { return nil }), inconclusive, "no voucher with its signature"},
		{"noise", with(func(*wire.Event) []byte { return []byte("not an envelope") }), fail, "does not hold: read the signed voucher"},
		{"one byte changed", with(func(e *wire.Event) []byte {
			v := append([]byte(nil), e.Voucher...)
			v[len(v)-1] ^= 1
			return v
		}), fail, "invalid signature"},
		{"signed by somebody else", with(func(e *wire.Event) []byte { return voucher(strangerKey, relayID, donorID, e.Expires) }), fail, "not by the relay"},
		{"about another relay", with(func(e *wire.Event) []byte { return voucher(relayKey, strangerID, donorID, e.Expires) }), fail, "it is about the relay"},
		{"made out to somebody else", with(func(e *wire.Event) []byte { return voucher(relayKey, relayID, submitterID, e.Expires) }), fail, "made out to"},
		{"signed by its holder", with(func(e *wire.Event) []byte { return voucher(donorKey, relayID, donorID, e.Expires) }), fail, "not by the relay"},
		{"run out", with(func(e *wire.Event) []byte { return voucher(relayKey, relayID, donorID, epoch.Add(-time.Hour)) }), fail, "before it was received"},
		{"of another reservation", with(func(e *wire.Event) []byte { return voucher(relayKey, relayID, donorID, e.Expires.Add(time.Minute)) }), fail, "the reservation at"},
	})
}

func TestOneWholeReservationIsEnough(t *testing.T) {
	s := passing()
	s.insert(named(evidence.DialProbed), func() {
		s.says(3*time.Second, donorName, wire.Event{Kind: wire.ReservationMade, Relay: strangerID, Conn: "c1"})
	})
	if a := verdictOn(t, evidence.Reservation, s); a.Verdict != pass {
		t.Errorf("%s: %s", a.Verdict, a.Observed)
	}
}

func TestADonorWithoutAReservationIsToldWhy(t *testing.T) {
	judgeClauses(t, evidence.Visibility, unreserved, nil)
	for _, c := range []struct {
		name  string
		spoil func(*story)
		want  evidence.Verdict
		says  string
	}{
		{"our own relays refuse", func(*story) {}, fail, "though there are relays of our own: none was asked that is a relay"},
		{"it dialled nobody", func(s *story) { s.said(donorName, wire.DialEnded, gone) }, inconclusive, "dialled nobody"},
		{"the suite never waited", func(s *story) { s.drop(evidence.StepFailed, "") }, inconclusive, "not in the trace"},
		{"its node died", func(s *story) {
			s.insert(named(evidence.StepFailed), func() { s.add(time.Minute, evidence.NodeExited, donorName, &evidence.Exit{Code: 3}) })
		}, fail, "the node of tensor02 had ended: exit status 3"},
		{"the suite let it die", func(s *story) {
			s.insert(named(evidence.StepFailed), func() {
				s.add(time.Minute, evidence.NodeExited, donorName, &evidence.Exit{Signal: "KILL", Lease: true})
			})
		}, inconclusive, "lease had lapsed"},
		{"the suite stumbled elsewhere", func(s *story) {
			s.drop(evidence.StepFailed, "")
			s.insert(named(evidence.RunEnded), func() {
				s.add(time.Minute, evidence.StepFailed, donorName, &evidence.Failure{Step: "job", Err: "no space"})
			})
		}, inconclusive, "not in the trace (job: no space)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := unreserved()
			c.spoil(s)
			for _, claim := range []evidence.Claim{evidence.HoldClaim, evidence.Reservation, evidence.Circuit, evidence.JobClaim} {
				if a := verdictOn(t, claim, s); a.Verdict != c.want || !strings.Contains(a.Observed, c.says) {
					t.Errorf("%s: %s: %s", claim, a.Verdict, a.Observed)
				}
			}
		})
	}
}
