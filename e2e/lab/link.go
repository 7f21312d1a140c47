//go:build linux

package lab

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// link is what a wire does to what goes over it, in each direction. The zero
// link is as fast as the machine and loses nothing.
//
//	frame --> lost? --> queue, if it has a rate --> delay, jitter, overtaken? --> other end
type link struct {
	inventory.Link
	// maxPacket is how many bytes an IP packet has at most that gets through; of
	// longer ones nobody is told. 0: any. An MTU is known to both ends.
	maxPacket int
}

// with is a link that is as bad as the worse of two, in each respect. A profile
// so makes no link better than its inventory says, and twice the same is once.
func (l link) with(other link) link {
	return link{
		Link: inventory.Link{
			Delay:   max(l.Delay, other.Delay),
			Jitter:  max(l.Jitter, other.Jitter),
			Loss:    max(l.Loss, other.Loss),
			Reorder: max(l.Reorder, other.Reorder),
			Rate:    tighter(l.Rate, other.Rate),
			MTU:     tighter(l.MTU, other.MTU),
		},
		maxPacket: tighter(l.maxPacket, other.maxPacket),
	}
}

// tighter is the smaller of two limits, of which 0 is none.
func tighter[T ~int | ~int64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// singly tells whether a link decides about each packet, and so must see them
// as they would be on a cable: not 64 KiB of them in one segment, which would
// be lost together, or take a second at once at 512 kbit/s.
func (l link) singly() bool {
	return l.Jitter > 0 || l.Loss > 0 || l.Rate > 0 || l.Reorder > 0
}

func (l link) mtu() int { return cmp.Or(l.MTU, etherMTU) }

const (
	etherMTU = 1500
	// A queue before a link with a rate holds what leaves within queueTime, as a
	// home router's does, and never less than ten segments, which are a TCP flow's
	// first (RFC 6928), with some room for others.
	queueTime = 200 * time.Millisecond
	minQueue  = 24 << 10
	// overtaking is by how much a packet comes late that others overtake. At 10
	// Mbit/s these are four, one more than TCP takes for a loss (RFC 5681).
	overtaking = 5 * time.Millisecond
)

// course is one direction of a link, over time.
type course struct {
	// chance decides, from the same seed always in the same way: the n-th packet
	// of a direction is lost in every run.
	chance *rand.Rand
	free   time.Time // when all that has been sent will have left
	last   time.Time // when the last of it arrives
}

// newCourse is the n-th direction of a lab.
func newCourse(n int) course {
	return course{chance: rand.New(rand.NewPCG(uint64(n), 0))}
}

// fate is what becomes of one frame.
type fate int

const (
	arrives    fate = iota
	lost            // on the way
	crowdedOut      // it found the queue full
	overtaken       // by those that are sent while it is late
)

// takes says when a frame of so many bytes, sent now, comes out at the other end.
func (c *course) takes(l *link, bytes int, now time.Time) (due time.Time, f fate) {
	if c.happens(l.Loss) {
		return now, lost
	}
	due = now
	if l.Rate > 0 {
		if c.free.Sub(now) > l.queue() {
			return now, crowdedOut
		}
		c.free = later(c.free, now).Add(l.airtime(bytes))
		due = c.free
	}
	due = due.Add(l.Delay)
	if l.Jitter > 0 {
		due = later(c.last, due.Add(time.Duration(c.chance.Int64N(int64(l.Jitter)))))
		c.last = due
	}
	if c.happens(l.Reorder) {
		return due.Add(overtaking), overtaken
	}
	return due, arrives
}

func (c *course) happens(percent float64) bool {
	return percent > 0 && c.chance.Float64()*100 < percent
}

// airtime is how long bytes occupy the link.
func (l link) airtime(bytes int) time.Duration {
	return time.Duration(float64(bytes) * 8 / float64(l.Rate) * float64(time.Second))
}

// queue is how long what stands before the link takes to leave at most.
func (l link) queue() time.Duration { return max(queueTime, l.airtime(minQueue)) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
