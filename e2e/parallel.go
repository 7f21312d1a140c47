package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
)

// inParallel does one thing to all of xs at once and joins the errors, in order.
func inParallel[T any](xs []T, do func(T) error) error {
	errs := make([]error, len(xs))
	var wg sync.WaitGroup
	for i, x := range xs {
		wg.Go(func() { errs[i] = do(x) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// randomHex gives 2n hex digits that nobody can foresee.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}
