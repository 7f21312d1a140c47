package traversal

import "time"

// NetworkChanged tells that this machine may be in another network, or that
// something in its way has opened: whatever waits for its next try stops to
// wait, names are asked again, and connections have to show that they live.
func (k *Keeper) NetworkChanged() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.changed == nil {
		return // not running yet
	}
	k.stirred = time.Now()
	close(k.stir)
	k.stir = make(chan struct{})
	for _, c := range k.candidates {
		c.notBefore = time.Time{}
	}
	if k.narrow {
		k.narrow = false
		k.Narrow(false)
	}
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
