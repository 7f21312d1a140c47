package traversal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// hedgeAfter is how long one relay may think about a reservation before another
// one is asked as well.
const hedgeAfter = 2 * time.Second

// Why a reservation ends.
var (
	errConnClosed = errors.New("the connection to the relay is closed")
	errNoRelay    = errors.New("the relay has stopped relaying")
	errExpired    = errors.New("the reservation could not be renewed in time")
	errSurplus    = errors.New("not renewed: more reservations than wanted")
	errNarrow     = errors.New("full-size packets vanish on this path: connecting anew with smaller ones")
	errBetterWay  = errors.New("a better way to the relay is open")
	errLimited    = errors.New("the relay limits circuits, and others do not")
)

// holding is a reservation that stands, and the connection it lives by.
type holding struct {
	keeper *Keeper
	conn   network.Conn
	id     string // of the connection, as in events
	used   ma.Multiaddr
	made   time.Time
	route  string        // by which proxy, as in wire.Event
	took   time.Duration // since reservations were lacking
	why    string        // this way, and no other

	// guarded by keeper.mu
	reservation reservation
	addrs       []ma.Multiaddr
	rtt         time.Duration
	heard       time.Time // when the ping was sent that was answered last
	end         context.CancelCauseFunc
	silent      bool // the last ping was not answered
	failing     bool // the last renewal failed
	inspected   *bool
	leaving     bool // it is being given up as one too many
}

// sound tells whether nothing speaks against the reservation. A doubtful one is
// kept, and another relay asked meanwhile.
func (h *holding) sound() bool { return !h.silent && !h.failing && !h.leaving }

// claim asks for the turn to ask a relay for a reservation: it is given when
// fewer stand, or are being asked for, than wanted. Those on relays that limit
// circuits count only for others of their kind: they are used when there is
// nothing better, and until there is. What a relay gives is known only once it
// was asked.
func (k *Keeper) claim(c *candidate) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	pending := 0
	for _, since := range k.asking {
		if time.Since(since) < hedgeAfter {
			pending++
		}
	}
	sound := k.soundLocked()
	if !c.limited {
		sound = k.unlimitedLocked()
	}
	if sound+pending >= k.want() {
		return false
	}
	k.asking[c.id] = time.Now()
	return true
}

// serve asks the candidate for a reservation and, when it is granted, keeps it
// for as long as it lives.
func (c *candidate) serve(ctx context.Context, conn network.Conn, closed <-chan struct{}) {
	look := c.keeper.lookAt(ctx, conn)
	defer look.end()
	r, err := c.reserve(ctx, conn)
	if err != nil {
		c.denied(ctx, conn, err)
		return
	}
	inspected, err := look.inspected()
	if err != nil {
		c.denied(ctx, conn, err)
		_ = conn.Close()
		return
	}
	c.refusals = 0
	if c.superfluous(r) {
		return
	}
	h := c.keeper.adopt(c, conn, r, inspected)
	err = h.live(ctx, closed)
	c.keeper.drop(ctx, c, h, err)
}

// superfluous tells whether a reservation with limits is one too many, and gives
// the turn back then. The relay forgets it in an hour.
func (c *candidate) superfluous(r reservation) bool {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	c.limited = r.limited()
	if !c.limited || k.soundLocked() < k.want() {
		return false
	}
	delete(k.asking, c.id)
	k.tellLocked()
	k.log().Info("a relay that limits circuits is not needed", "relay", c.id.String())
	return true
}

// denied gives the turn back and notes why there is no reservation.
func (c *candidate) denied(ctx context.Context, conn network.Conn, err error) {
	k := c.keeper
	wait := max(backoff(c.refusals, maxBackoff, jitter()), refusalPause(err))
	c.refusals++
	noRelay := k.noHop(c.id, err)
	k.starts.open()
	k.mu.Lock()
	delete(k.asking, c.id)
	c.notBefore = time.Now().Add(wait)
	if noRelay {
		c.hop, c.hopUntil = hopNo, time.Now().Add(idleBackoff)
	}
	k.tellLocked()
	k.mu.Unlock()
	if noRelay {
		k.log().Info("peer is no relay", "peer", c.id.String())
		return
	}
	if ctx.Err() != nil {
		return
	}
	k.recordFailed(conn, err, false)
	if k.Refused != nil && refused(err) {
		k.tending.Go(func() { k.Refused(ctx, conn) })
	}
}

func (k *Keeper) recordFailed(conn network.Conn, err error, renewal bool) {
	k.record(wire.Event{Kind: wire.ReservationFailed, Relay: conn.RemotePeer().String(), Conn: k.connID(conn),
		Remote: conn.RemoteMultiaddr().String(), Failure: string(netcheck.Classify(err)), Err: err.Error(), Renewal: renewal})
}

// adopt makes the granted reservation one of ours.
func (k *Keeper) adopt(c *candidate, conn network.Conn, r reservation, inspected *bool) *holding {
	h := &holding{keeper: k, conn: conn, id: k.connID(conn), used: k.dialled(c, conn), made: time.Now(), reservation: r, inspected: inspected}
	h.addrs = circuitAddrs(c.id, h.used, r.Addrs)
	h.recordMade(r, h.addrs, false) // whoever sees the state finds the event
	h.route = k.routeOf(conn)
	k.mu.Lock()
	delete(k.asking, c.id)
	h.took = since(cmp.Or(k.noneSince, k.lackingSince))
	h.why = c.whyLocked(h.used)
	k.held[c.id], c.relayed, c.limited = h, true, r.limited()
	k.giveUpLimitedLocked()
	k.tellLocked()
	k.mu.Unlock()
	k.starts.open()
	k.tellChanged()
	k.memorize(h)
	if k.Reserved != nil {
		k.Reserved(c.id, h.used)
	}
	return h
}

// giveUpLimitedLocked ends the reservations with limits once there are enough
// without. k.mu is held.
func (k *Keeper) giveUpLimitedLocked() {
	if k.unlimitedLocked() < k.want() {
		return
	}
	for _, h := range k.held {
		if h.reservation.limited() && h.end != nil {
			h.leaving = true
			h.end(errLimited)
		}
	}
}

func (k *Keeper) tellChanged() {
	if k.Changed != nil {
		k.Changed()
	}
}

func (h *holding) recordMade(r reservation, addrs []ma.Multiaddr, renewal bool) {
	e := wire.Event{Kind: wire.ReservationMade, Relay: h.conn.RemotePeer().String(), Conn: h.id, Expires: r.Expires,
		Voucher: r.Voucher, LimitSeconds: uint32(r.Limit / time.Second), LimitBytes: r.Data, Renewal: renewal}
	for _, a := range addrs {
		e.Addrs = append(e.Addrs, a.String())
	}
	h.keeper.record(e)
}

// dialled is the address by which the relay can be reached: the far end of a
// connection we opened, in the words in which we knew it.
func (k *Keeper) dialled(c *candidate, conn network.Conn) ma.Multiaddr {
	k.mu.Lock()
	known := slices.Clone(c.addrs)
	k.mu.Unlock()
	remote := conn.RemoteMultiaddr()
	for _, a := range slices.Concat(known, k.Host.Peerstore().Addrs(c.id)) {
		if sameEndpoint(a, remote) {
			return canonical(a)
		}
	}
	if conn.Stat().Direction == network.DirInbound && len(known) > 0 {
		return known[0] // the far end is a port that nobody listens on
	}
	return canonical(remote)
}

// live keeps the reservation until it is lost, and tells why; nil when ctx ends.
func (h *holding) live(ctx context.Context, closed <-chan struct{}) error {
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)
	h.keeper.mu.Lock()
	h.end = end
	h.keeper.giveUpLimitedLocked()
	h.keeper.mu.Unlock()
	var wg sync.WaitGroup
	for _, watch := range []func(context.Context) error{h.ping, h.renew, h.relays, h.fits, h.improves} {
		wg.Go(func() {
			if err := watch(inner); err != nil {
				end(err)
			}
		})
	}
	select {
	case <-inner.Done():
	case <-closed:
		end(errConnClosed)
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(inner)
}

// ping watches the path.
func (h *holding) ping(ctx context.Context) error {
	id := h.conn.RemotePeer()
	p := pinger{conn: h.conn, report: h.pinged, hurry: h.keeper.stirs, speaks: func() bool { return h.keeper.says(id, ping.ID) }}
	return p.run(ctx)
}

// pinged notes one round trip, or its failure.
func (h *holding) pinged(rtt time.Duration, err error) {
	k := h.keeper
	e := wire.Event{Kind: wire.RelayPing, Relay: h.conn.RemotePeer().String(), Conn: h.id, Outcome: wire.OK, MS: ms(rtt)}
	if err != nil {
		e.Outcome, e.Err = wire.Failed, err.Error()
	}
	silent := err != nil && !answered(h.conn, err)
	k.mu.Lock()
	if err == nil {
		first := h.heard.IsZero()
		h.rtt, h.heard = rtt, time.Now().Add(-rtt)
		if first {
			k.tellLocked()
		}
	}
	h.doubtLocked(&h.silent, silent)
	k.mu.Unlock()
	k.record(e)
}

// doubtLocked sets one of the doubts and wakes the others when there is need of
// them. keeper.mu is held.
func (h *holding) doubtLocked(doubt *bool, yes bool) {
	if *doubt == yes {
		return
	}
	*doubt = yes
	if yes && time.Since(h.keeper.lost) > doubtEvery {
		h.keeper.lostLocked()
	}
	h.keeper.tellLocked()
}

// relays ends when the relay says that it relays no more: a reservation on a
// relay service that was stopped or restarted is dead, although the connection
// lives.
func (h *holding) relays(ctx context.Context) error {
	k := h.keeper
	for ctx.Err() == nil {
		change := k.change()
		if k.hopOf(h.conn.RemotePeer()) == hopNo {
			return errNoRelay
		}
		await(ctx, change, idleBackoff)
	}
	return nil
}

// renewEvery is the longest wait between two renewals. A relay service that
// was restarted behind a connection that stayed has forgotten us without a sign;
// asking again mends it, and costs less than a byte per second.
const renewEvery = 10 * time.Minute

// renew asks again at about half of the lifetime, and then until it is over. It
// ends with an error when the reservation does.
func (h *holding) renew(ctx context.Context) error {
	var err error // of the last renewal
	for failures := 0; ; {
		left := h.lifetimeLeft()
		wait := time.Duration(float64(min(left/2, cmp.Or(h.keeper.renewEvery, renewEvery))) * jitter())
		if failures > 0 {
			wait = min(max(backoff(failures, maxBackoff, jitter()), refusalPause(err)), left)
		}
		if !pause(ctx, wait) {
			return nil
		}
		if h.surplus() {
			return errSurplus
		}
		err = h.renewOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failures = 0
		case h.keeper.noHop(h.conn.RemotePeer(), err):
			return fmt.Errorf("%w: %w", errNoRelay, err)
		case h.lifetimeLeft() <= 0:
			return fmt.Errorf("%w: %w", errExpired, err)
		default:
			failures++
		}
	}
}

// lifetimeLeft is how long the reservation stands by our clock.
func (h *holding) lifetimeLeft() time.Duration {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return time.Until(h.reservation.granted.Add(h.reservation.TTL))
}

// surplus tells whether the reservation is one too many. It is counted out in
// the same moment, so that two of them do not each give way to the other.
func (h *holding) surplus() bool {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	others := h.keeper.soundLocked()
	if !h.reservation.limited() {
		others = h.keeper.unlimitedLocked()
	}
	if h.sound() {
		others--
	}
	h.leaving = others >= h.keeper.want()
	return h.leaving
}

func (h *holding) renewOnce(ctx context.Context) error {
	k := h.keeper
	r, err := reserve(ctx, h.conn)
	if err != nil {
		if ctx.Err() == nil {
			k.recordFailed(h.conn, err, true)
		}
		k.mu.Lock()
		h.doubtLocked(&h.failing, true)
		k.mu.Unlock()
		return err
	}
	addrs := circuitAddrs(h.conn.RemotePeer(), h.used, r.Addrs)
	k.mu.Lock()
	moved := !slices.EqualFunc(addrs, h.addrs, ma.Multiaddr.Equal)
	moved = moved || r.limited() != h.reservation.limited()
	h.reservation, h.addrs = r, addrs
	h.doubtLocked(&h.failing, false)
	k.mu.Unlock()
	h.recordMade(r, addrs, true)
	if moved {
		k.tellChanged()
	}
	return nil
}

// drop forgets the reservation. A path that is dead takes its connection along.
func (k *Keeper) drop(ctx context.Context, c *candidate, h *holding, why error) {
	stopping := ctx.Err() != nil
	if !stopping {
		k.record(wire.Event{Kind: wire.ReservationLost, Relay: c.id.String(), Conn: h.id, Err: why.Error()})
	}
	k.mu.Lock()
	delete(k.held, c.id)
	k.lostLocked()
	k.kept = false
	// The others first: they are connected, and nothing speaks against them.
	c.notBefore = time.Now().Add(time.Second)
	k.tellLocked()
	k.mu.Unlock()
	if stopping {
		return
	}
	k.tellChanged()
	k.memorizeStanding()
	if errors.Is(why, errDead) || errors.Is(why, errNarrow) || errors.Is(why, errBetterWay) {
		_ = h.conn.Close()
	}
}

func (h *holding) status() wire.RelayStatus {
	return wire.RelayStatus{
		PeerID:       h.conn.RemotePeer().String(),
		Addr:         h.used.String(),
		Transport:    TransportName(h.used),
		Route:        h.route,
		Conn:         h.id,
		Since:        h.conn.Stat().Opened.UTC(),
		Expires:      h.reservation.Expires,
		RTTMS:        ms(h.rtt),
		Inspected:    h.inspected,
		LimitSeconds: uint32(h.reservation.Limit / time.Second),
		LimitBytes:   h.reservation.Data,
	}
}
