package wasmfixtures

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"math/bits"
)

func noop(nonce []byte) []byte { return bytes.Clone(nonce) }

func sha256Sum(nonce []byte) []byte {
	sum := sha256.Sum256(nonce)
	return sum[:]
}

// place is where a nonce points to.
func place(nonce []byte) uint64 {
	h := fnv.New64a()
	h.Write(nonce)
	return h.Sum64()
}

// primesWindow is how many numbers the fixture looks at.
const primesWindow = 1 << 15

// primes finds the primes of the window one by one. The module sieves; here
// each number is tested by itself.
func primes(nonce []byte) []byte {
	start := uint64(1<<31) + place(nonce)%(1<<31-primesWindow)
	var out []byte
	for n := start; n < start+primesWindow; n++ {
		if isPrime(n) {
			out = binary.LittleEndian.AppendUint32(out, uint32(n))
		}
	}
	return out
}

// isPrime is the test of Miller and Rabin, for odd and even numbers from 64 to
// 2^32. With the bases 2, 7 and 61 it errs on none below 4,759,123,141
// (Jaeschke, On strong pseudoprimes to several bases, 1993).
func isPrime(n uint64) bool {
	for _, small := range []uint64{2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61} {
		if n%small == 0 {
			return false
		}
	}
	twos := bits.TrailingZeros64(n - 1)
	odd := (n - 1) >> twos
	for _, base := range []uint64{2, 7, 61} {
		if !strongProbablePrime(n, base, odd, twos) {
			return false
		}
	}
	return true
}

// strongProbablePrime tells whether base is no witness of n = odd * 2^twos + 1 being composite.
func strongProbablePrime(n, base, odd uint64, twos int) bool {
	x := uint64(1)
	for square, e := base, odd; e > 0; e >>= 1 {
		if e&1 == 1 {
			x = x * square % n
		}
		square = square * square % n
	}
	if x == 1 || x == n-1 {
		return true
	}
	for range twos - 1 {
		if x = x * x % n; x == n-1 {
			return true
		}
	}
	return false
}
