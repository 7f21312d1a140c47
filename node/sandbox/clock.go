package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// epoch is the instant at which every job starts.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tick is what reading the clock costs: a clock that stands still hangs
// programs that wait by reading it.
const tick = time.Microsecond

// virtualTime is the time inside a job. Sleeping moves it without waiting, so
// no job can hold its place by sleeping.
type virtualTime struct{ elapsed time.Duration }

func (v *virtualTime) read() time.Duration {
	v.elapsed += tick
	return v.elapsed
}

func (v *virtualTime) sleep(ns int64) {
	if d := time.Duration(ns); d > 0 && v.elapsed+d > v.elapsed {
		v.elapsed += d
	}
}

func (v *virtualTime) wall() (sec int64, nsec int32) {
	now := epoch.Add(v.read())
	return now.Unix(), int32(now.Nanosecond())
}

// deterministic gives a module the virtual time and the seeded random numbers of a job.
func deterministic(config wazero.ModuleConfig, key moduleKey, job Job) wazero.ModuleConfig {
	clock := &virtualTime{}
	resolution := sys.ClockResolution(tick)
	return config.
		WithWalltime(clock.wall, resolution).
		WithNanotime(func() int64 { return int64(clock.read()) }, resolution).
		WithNanosleep(clock.sleep).
		WithRandSource(rand.NewChaCha8(seed(key, job)))
}

// seed depends on all that a job consists of - the module by its hash - each
// part behind its length.
func seed(key moduleKey, job Job) (seed [32]byte) {
	h := sha256.New()
	put := func(part []byte) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // hashes do not fail
		h.Write(part)
	}
	put(key[:])
	put(job.Stdin)
	for _, arg := range job.Args {
		put([]byte(arg))
	}
	h.Sum(seed[:0])
	return seed
}
