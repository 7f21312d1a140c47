package discovery

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// maxCounted bounds the peers that a quota counts apart; beyond, those that
	// have their full burst again are forgotten, and newcomers wait for that.
	maxCounted = 4096
	// muteFor is how long a peer is not listened to that sent what no honest one
	// sends. Not for ever: who shares its identity with a bug is updated one day.
	muteFor = 10 * time.Minute
)

// quota is how often peers may do something: each of them, and all together.
type quota struct {
	each  rate.Limit
	burst int
	all   *rate.Limiter

	mu    sync.Mutex // guards the fields below
	peers map[peer.ID]*counted
}

type counted struct {
	*rate.Limiter
	mutedUntil time.Time
}

// newQuota allows each peer burst at once and then one every so often, and all
// peers together crowd times as much.
func newQuota(every time.Duration, burst, crowd int) *quota {
	each := rate.Every(every)
	return &quota{each: each, burst: burst, all: rate.NewLimiter(each*rate.Limit(crowd), burst*crowd), peers: map[peer.ID]*counted{}}
}

// allow tells whether id may, now, and counts it. What a peer asks beyond its
// own share takes nothing from the others.
func (q *quota) allow(id peer.ID, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.of(id, now)
	return c != nil && !now.Before(c.mutedUntil) && c.AllowN(now, 1) && q.all.AllowN(now, 1)
}

// mute allows id nothing for muteFor.
func (q *quota) mute(id peer.ID, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.of(id, now); c != nil {
		c.mutedUntil = now.Add(muteFor)
	}
}

// of is the count of id, or nil when there is no room for one more.
func (q *quota) of(id peer.ID, now time.Time) *counted {
	if c, ok := q.peers[id]; ok {
		return c
	}
	if len(q.peers) >= maxCounted {
		for old, c := range q.peers {
			if now.After(c.mutedUntil) && c.TokensAt(now) >= float64(q.burst) {
				delete(q.peers, old)
			}
		}
		if len(q.peers) >= maxCounted {
			return nil
		}
	}
	c := &counted{Limiter: rate.NewLimiter(q.each, q.burst)}
	q.peers[id] = c
	return c
}
