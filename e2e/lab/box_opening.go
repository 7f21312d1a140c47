//go:build linux

package lab

// opening condemns flows of which either stream opens with a text. It makes no
// difference how the text is cut into segments.
type opening struct {
	text    string
	verdict verdict
	agreed  [2]int  // how much of the text each side has said
	other   [2]bool // it has said something else
}

func (o *opening) look(from side, data []byte) verdict {
	if o.other[from] {
		return undecided
	}
	expected := o.text[o.agreed[from]:]
	n := min(len(data), len(expected))
	o.agreed[from] += n
	switch {
	case string(data[:n]) != expected[:n]:
		o.other[from] = true
		if o.other[from.other()] {
			return harmless
		}
	case n == len(expected):
		return o.verdict
	}
	return undecided
}
