package matrix

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Home is the profile that a submitter stands behind where nothing else is said:
// that of a Truth.
const Home = "home"

// Cell is one acceptance run of a matrix.
type Cell struct {
	Donor     string `json:"donor"`               // profile, or several joined by +
	Submitter string `json:"submitter"`           // the same
	Transport string `json:"transport,omitempty"` // the only one that donor and submitter speak: quic or tcp; empty: all
	Round     int    `json:"round"`               // from 1; more than one where cells are repeated
}

// String names a cell for a person.
func (c Cell) String() string {
	s := c.Donor
	if c.Submitter != Home || c.Transport != "" {
		s += " x " + c.Submitter
	}
	if c.Transport != "" {
		s += " over " + c.Transport
	}
	if c.Round > 1 {
		s += fmt.Sprintf(" (round %d)", c.Round)
	}
	return s
}

// Folder names a cell for a file system: plain letters, and no two cells share it.
func (c Cell) Folder() string {
	parts := []string{plain(c.Donor)}
	if c.Submitter != Home || c.Transport != "" {
		parts = append(parts, "x", plain(c.Submitter))
	}
	if c.Transport != "" {
		parts = append(parts, "over", c.Transport)
	}
	if c.Round > 1 {
		parts = append(parts, fmt.Sprintf("round%d", c.Round))
	}
	return strings.Join(parts, "_")
}

func plain(profile string) string { return strings.ReplaceAll(profile, " ", "") }

// Cells are those of some profiles, rounds times each, the submitter at home.
func Cells(profiles []string, rounds int) []Cell {
	var cells []Cell
	for round := range rounds {
		for _, p := range profiles {
			cells = append(cells, Cell{Donor: p, Submitter: Home, Round: round + 1})
		}
	}
	return cells
}

// Grid is every profile against every one, over each transport alone.
func Grid(profiles, transports []string, rounds int) []Cell {
	var cells []Cell
	for round := range rounds {
		for _, t := range transports {
			for _, donor := range profiles {
				for _, submitter := range profiles {
					cells = append(cells, Cell{Donor: donor, Submitter: submitter, Transport: t, Round: round + 1})
				}
			}
		}
	}
	return cells
}

// NATKinds are the profiles of the grid: the ways in which home routers, mobile
// networks, campuses and clouds translate addresses.
var NATKinds = []string{"home", "full-cone", "address-restricted", "symmetric", "cgnat-ports", "nat-pool", "double-nat", "cloud-1to1", "no-hairpin"}

// GridTransports are those over which a hole can be punched, as words of a
// node's --transport.
var GridTransports = []string{"quic", "tcp"}

// Shard is one of several equal parts of a matrix. The zero Shard is the whole.
type Shard struct{ Index, Of int } // Index from 1

// ParseShard reads i/n, as in 2/8.
func ParseShard(s string) (Shard, error) {
	var sh Shard
	var rest string
	if n, _ := fmt.Sscanf(s+" .", "%d/%d %s", &sh.Index, &sh.Of, &rest); n != 3 || rest != "." {
		return Shard{}, fmt.Errorf("shard %q: is not i/n, as in 2/8", s)
	}
	if sh.Of < 1 || sh.Index < 1 || sh.Index > sh.Of {
		return Shard{}, fmt.Errorf("shard %q: of %d shards there are those from 1 to %d", s, sh.Of, max(sh.Of, 0))
	}
	return sh, nil
}

func (s Shard) String() string {
	if s == (Shard{}) {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Of)
}

// Take deals cells out like cards: what is slow stands together in the catalogue,
// and every shard gets its part of it. The same cells give the same shards, on
// every machine.
func (s Shard) Take(cells []Placed) []Placed {
	if s == (Shard{}) {
		return cells
	}
	var mine []Placed
	for i := s.Index - 1; i < len(cells); i += s.Of {
		mine = append(mine, cells[i])
	}
	return mine
}

// Shuffle puts cells in the order in which they start. The same seed gives the
// same order, and so the same neighbours.
func Shuffle(cells []Placed, seed uint64) []Placed {
	out := slices.Clone(cells)
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
