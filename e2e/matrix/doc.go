// Package matrix is the acceptance run behind every firewall profile, graded:
// what was seen of each run beside what the profile's ground truth says must be
// seen there.
//
//	profile ──► lab.Truth ──► Expected ──┐
//	                                     ├──► Differences ──► Outcome ─┐
//	a run's trace ──► Watcher ──► Seen ──┘                            ├─► Results ─► table, JSON,
//	   │                                       (other cells) ─────────┘    JUnit, Markdown, HTML
//	   └──(as it grows)──► Watcher ──► a line of the live table
//
// A Cell is one such run: a donor behind one profile, a submitter behind another.
// A difference counts in either direction: a donor that gets out where the truth
// says that it cannot makes the matrix fail as one that does not get out where it
// can, since then either the profile or its truth is wrong.
//
// The package starts nothing by itself: Play schedules cells and is handed what
// carries out one of them.
package matrix
