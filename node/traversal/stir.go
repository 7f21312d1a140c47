package traversal

import (
	"context"
	"time"
)

// stirEvery is how often a change of the network is acted on at most: an
// interface that flaps shall not have us dial everybody all the time.
const stirEvery = 5 * time.Second

// NetworkChanged tells that this machine may be in another network, or that
// something in its way has opened: whatever waits for its next try stops to
// wait, names are asked again, and connections have to show that they live.
func (k *Keeper) NetworkChanged(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.candidates == nil || k.stirPending {
		return // not running yet, or about to do so anyway
	}
	wait := stirEvery - time.Since(k.stirred)
	if wait <= 0 {
		k.stirLocked()
		k.tending.Go(func() { k.tryRemembered(ctx) })
		return
	}
	k.stirPending = true
	k.tending.Go(func() {
		if !pause(ctx, wait) {
			return // nobody begins any more
		}
		k.mu.Lock()
		k.stirPending = false
		k.stirLocked()
		k.mu.Unlock()
		k.tryRemembered(ctx)
	})
}

// stirLocked does so. k.mu is held. Relays that have said no a moment ago are
// left in peace all the same.
func (k *Keeper) stirLocked() {
	k.stirred, k.kept = time.Now(), false
	close(k.stir)
	k.stir = make(chan struct{})
	for _, c := range k.candidates {
		if time.Until(c.notBefore) < refusedBackoff {
			c.notBefore = time.Time{}
		}
	}
	k.narrowLocked(false)
	k.tellLocked()
}

// stirs is closed at the next change of the network.
func (k *Keeper) stirs() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stir
}

// stirredSince tells whether the network has changed after then.
func (k *Keeper) stirredSince(then time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stirred.After(then)
}
