package inventory

import "strings"

// suggest is the hint for a word that is not among the known ones: the nearest
// of them when it looks like a slip of the finger, else all.
func suggest(word string, known []string) string {
	best, least := "", 0
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); best == "" || d < least {
			best, least = k, d
		}
	}
	if best != "" && least <= 1+len(best)/4 {
		return "did you mean " + best + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}

// distance is how many letters have to be put in, left out, changed, or
// swapped with a neighbour, to get from a to b (Damerau-Levenshtein, optimal
// string alignment).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a) // no slip of the finger
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			d[i][j] = min(change, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
