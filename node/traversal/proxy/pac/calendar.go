package pac

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The three functions about the calendar take a moment or a range, inclusive at
// both ends, and perhaps "GMT" after it; local time otherwise. A range that ends
// before it begins goes on into the next week, month, year or day. What makes no
// sense is never.

var (
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
)

// within takes the clock's zone and the absent arguments off.
func within(now time.Time, args []string) (time.Time, []string) {
	for len(args) > 0 && args[len(args)-1] == "" {
		args = args[:len(args)-1]
	}
	if n := len(args); n > 0 && strings.EqualFold(args[n-1], "GMT") {
		return now.UTC(), args[:n-1]
	}
	return now, args
}

// between: from <= now <= to, on a circle.
func between(from, now, to int) bool {
	if from <= to {
		return from <= now && now <= to
	}
	return from <= now || now <= to
}

func weekdayRange(now time.Time, args []string) bool {
	now, args = within(now, args)
	var days []int
	for _, a := range args {
		days = append(days, slices.Index(weekdays, strings.ToUpper(a)))
	}
	if len(days) < 1 || len(days) > 2 || slices.Contains(days, -1) {
		return false
	}
	return between(days[0], int(now.Weekday()), days[len(days)-1])
}

// timeRange: (h), (h1, h2), (h1, m1, h2, m2), (h1, m1, s1, h2, m2, s2).
func timeRange(now time.Time, args []string) bool {
	now, args = within(now, args)
	var n []int
	for _, a := range args {
		v, err := strconv.Atoi(a)
		if err != nil || v < 0 || v > 59 {
			return false
		}
		n = append(n, v)
	}
	h, m, s := now.Clock()
	switch len(n) {
	case 1, 2:
		return between(n[0], h, n[len(n)-1])
	case 4:
		return between(n[0]*60+n[1], h*60+m, n[2]*60+n[3])
	case 6:
		return between(n[0]*3600+n[1]*60+n[2], h*3600+m*60+s, n[3]*3600+n[4]*60+n[5])
	}
	return false
}

// dateRange takes a day, a month or a year, two of one kind, or two dates of
// day and month, month and year, or all three.
func dateRange(now time.Time, args []string) bool {
	now, args = within(now, args)
	half := (len(args) + 1) / 2
	if len(args) != 1 && (len(args)%2 != 0 || half == 0 || half > 3) {
		return false
	}
	from, ok1 := dateOf(args[:half])
	to, ok2 := dateOf(args[len(args)-half:])
	if !ok1 || !ok2 || from.kinds() != to.kinds() {
		return false
	}
	today := date{year: now.Year(), month: int(now.Month()), day: now.Day()}.only(from)
	if from.year != 0 && from.key() > to.key() {
		return false // years do not come again
	}
	return between(from.key(), today.key(), to.key())
}

// date is a date whose zero parts are left open.
type date struct{ year, month, day int }

func (d date) key() int { return (d.year*100+d.month)*100 + d.day }

func (d date) kinds() [3]bool { return [3]bool{d.year != 0, d.month != 0, d.day != 0} }

// only leaves open what is open in other.
func (d date) only(other date) date {
	kinds := other.kinds()
	for i, part := range []*int{&d.year, &d.month, &d.day} {
		if !kinds[i] {
			*part = 0
		}
	}
	return d
}

// lastDay divides days from years, which come as numbers alike.
const lastDay = 31

func dateOf(args []string) (date, bool) {
	var d date
	for _, a := range args {
		n, err := strconv.Atoi(a)
		month := slices.Index(months, strings.ToUpper(a)) + 1
		part := &d.year
		switch {
		case month > 0:
			part, n = &d.month, month
		case err != nil || n < 1:
			return date{}, false
		case n <= lastDay:
			part = &d.day
		}
		if *part != 0 {
			return date{}, false
		}
		*part = n
	}
	return d, true
}
