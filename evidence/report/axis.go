package report

import (
	"fmt"
	"math"
	"time"
)

// axis places times, or values, on a drawing. What lies outside is drawn at
// the edge: a host's clock may claim anything.
type axis struct {
	low, high float64
	at, to    float64 // where low and high are drawn
}

func (a axis) place(v float64) float64 {
	if a.high <= a.low {
		return a.at
	}
	v = max(a.low, min(a.high, v))
	return round(a.at + (v-a.low)/(a.high-a.low)*(a.to-a.at))
}

// round keeps a tenth of a pixel: the rest is bytes.
func round(v float64) float64 { return math.Round(v*10) / 10 }

// tick is a line of the grid.
type tick struct {
	At    float64
	Label string
}

// timeAxis counts seconds from zero.
type timeAxis struct {
	axis
	zero time.Time
}

func (a timeAxis) x(t time.Time) float64 { return a.place(t.Sub(a.zero).Seconds()) }

// steps that a person counts time in, in seconds.
var timeSteps = []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400}

func (a timeAxis) ticks(most int) []tick {
	step := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if (a.high-a.low)/s <= float64(most) {
			step = s
			break
		}
	}
	return a.every(step, func(v float64) string {
		if v == 0 {
			return "0"
		}
		if v < 0 {
			return "-" + span(time.Duration(-v*float64(time.Second)))
		}
		return span(time.Duration(v * float64(time.Second)))
	})
}

// msTicks is the grid of an axis in milliseconds.
func (a axis) msTicks(most int) []tick {
	step := niceStep((a.high - a.low) / float64(most))
	return a.every(step, func(v float64) string { return fmt.Sprintf("%g ms", v) })
}

func (a axis) every(step float64, label func(float64) string) []tick {
	const most = 100 // whatever the step: an axis of centuries has no more
	var list []tick
	for i, n := math.Ceil(a.low/step), 0; i*step <= a.high && n < most; i, n = i+1, n+1 {
		v := i * step
		list = append(list, tick{a.place(v), label(math.Round(v*1000) / 1000)})
	}
	return list
}

// niceStep is the next of 1, 2, 5, 10, 20 ... (and their fractions).
func niceStep(least float64) float64 {
	if least <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= least {
			return m * unit
		}
	}
	return 10 * unit
}
