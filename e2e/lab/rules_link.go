//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// Rules about the link outside a network's router. It is the wire that follows
// them (see link), in each direction.

// on makes the link at least as bad as l.
func on(l inventory.Link) func(*firewall) {
	return func(f *firewall) { f.link = f.link.with(link{Link: l}) }
}

func lossy(percent float64) rule {
	return rule{name: "lose", link: true, does: fmt.Sprintf("%g %% of the packets are lost in each direction, by chance", percent),
		apply: on(inventory.Link{Loss: percent}),
		proof: func(t *trial) error {
			return t.eachWay(func(from, to *end) error {
				const sent = 2000
				got, err := train(from, to, sent)
				missing := sent - len(got)
				share := 100 * float64(missing) / sent
				t.saw("%d of %d packets from the %s are lost", missing, sent, from.name)
				if err == nil && (share < percent/3 || share > percent*2) {
					err = fmt.Errorf("%.2f %% of the packets from the %s are lost", share, from.name)
				}
				return err
			})
		}}
}

func jittery(most time.Duration) rule {
	return rule{name: "jitter", link: true, does: fmt.Sprintf("each packet takes up to %s more, another time each, and they stay in order", most),
		apply: on(inventory.Link{Jitter: most}),
		proof: func(t *trial) error {
			return t.eachWay(func(from, to *end) error {
				got, err := train(from, to, 200)
				if err != nil {
					return err
				}
				slices.SortFunc(got, func(a, b arrival) int { return int(a.took - b.took) })
				// Packets so close together wait for those before them, so that nearly all
				// are late. Without jitter, a busy machine makes many late, but not these.
				fast := got[len(got)/20].took
				t.saw("19 in 20 packets from the %s take %s or more", from.name, fast.Round(time.Millisecond))
				if fast < most/4 {
					return fmt.Errorf("one in 20 packets from the %s takes %s or less", from.name, fast)
				}
				return nil
			})
		}}
}

func reordering(percent float64) rule {
	return rule{name: "reorder", link: true, does: fmt.Sprintf("%g %% of the packets come late, and others overtake them", percent),
		apply: on(inventory.Link{Reorder: percent}),
		proof: func(t *trial) error {
			return t.eachWay(func(from, to *end) error {
				const sent = 1000
				got, err := train(from, to, sent)
				late := 0
				for i := 1; i < len(got); i++ {
					if got[i].number < got[i-1].number {
						late++
					}
				}
				t.saw("%d of %d packets from the %s are overtaken", late, sent, from.name)
				if share := 100 * float64(late) / sent; err == nil && (share < percent/4 || share > percent*2) {
					err = fmt.Errorf("%d of %d packets from the %s are overtaken", late, sent, from.name)
				}
				return err
			})
		}}
}

func slow(d time.Duration) rule {
	return rule{name: "delay", link: true, does: fmt.Sprintf("every packet takes %s, each way", d),
		apply: on(inventory.Link{Delay: d}),
		proof: func(t *trial) error {
			f, err := t.anyStream()
			if err != nil {
				return err
			}
			start := time.Now()
			err = f.alive()
			took := time.Since(start)
			t.saw("a round trip takes %s", took.Round(time.Millisecond))
			if err == nil && took < 2*d {
				err = fmt.Errorf("a round trip takes %s", took)
			}
			return err
		}}
}

func narrow(bits int64) rule {
	return rule{name: "rate", link: true, does: fmt.Sprintf("%d kbit/s pass in each direction, and what a queue of 200 ms has no room for is dropped", bits/1000),
		apply: on(inventory.Link{Rate: bits}),
		proof: func(t *trial) error {
			f, err := t.anyStream()
			if err != nil {
				return err
			}
			for _, way := range []flow{f, {f.far, f.near}} {
				rate, err := way.throughput(int(bits / 8)) // a second's worth
				t.saw("a stream from the %s has %.0f kbit/s", way.near.name, rate/1000)
				if err == nil && rate > float64(bits) {
					err = fmt.Errorf("a stream from the %s has %.0f kbit/s", way.near.name, rate/1000)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}}
}

// throughput has the near end say so many bytes, and returns in bits per second
// how fast they arrive.
func (f flow) throughput(bytes int) (rate float64, err error) {
	wrong := make(chan error, 1)
	go func() { wrong <- f.near.write(strings.Repeat("x", bytes)) }()
	start := time.Now()
	if err := f.far.stream.SetReadDeadline(start.Add(proofTimeout / 2)); err != nil {
		return 0, err
	}
	n, err := io.CopyN(io.Discard, f.far.stream, int64(bytes))
	return float64(n) * 8 / time.Since(start).Seconds(), errors.Join(err, <-wrong)
}

// anyStream opens a TCP flow to some port that the profile lets pass.
func (t *trial) anyStream() (flow, error) {
	p, err := t.way("tcp")
	if err != nil {
		return flow{}, err
	}
	return t.stream(p.number)
}

// eachWay tries a UDP flow in either direction.
func (t *trial) eachWay(try func(from, to *end) error) error {
	p, err := t.way("udp")
	if err != nil {
		return err
	}
	f, err := t.datagrams(p.number)
	if err != nil {
		return err
	}
	return errors.Join(try(f.near, f.far), try(f.far, f.near))
}

// arrival is a packet of a train that came.
type arrival struct {
	number int
	took   time.Duration
}

// train sends numbered packets, no faster than the other end can take them, and
// returns those that arrive, as they do.
func train(from, to *end, packets int) ([]arrival, error) {
	const pause, together = time.Millisecond, 2
	sent := make([]time.Time, packets)
	wrong := make(chan error, 1)
	go func() {
		for i := range packets {
			sent[i] = time.Now()
			if err := from.write(string(binary.BigEndian.AppendUint32(nil, uint32(i)))); err != nil {
				wrong <- err
				return
			}
			if i%together == 0 {
				time.Sleep(pause)
			}
		}
		wrong <- nil
	}()
	type came struct {
		number int
		at     time.Time
	}
	var got []came
	for {
		text, _, err := to.read(answerWait / 5)
		if timedOut(err) {
			break
		}
		if err != nil {
			return nil, errors.Join(err, <-wrong)
		}
		got = append(got, came{int(binary.BigEndian.Uint32([]byte(text))), time.Now()})
	}
	if err := <-wrong; err != nil {
		return nil, err
	}
	var list []arrival
	for _, g := range got {
		list = append(list, arrival{g.number, g.at.Sub(sent[g.number])})
	}
	return list, nil
}
