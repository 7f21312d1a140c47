//go:build linux

package lab

// byteCap has a flow vanish, in both directions, as soon as the listener has said
// more than so many bytes. The segment that exceeds them is the first to go.
type byteCap struct{ left int }

func (c *byteCap) look(from side, data []byte) verdict {
	if from == listener {
		c.left -= len(data)
	}
	if c.left < 0 {
		return vanishes
	}
	return undecided
}
