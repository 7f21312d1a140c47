// Package evidence is the bundle that a run leaves behind: its vocabulary, its
// writer, its reader and its integrity check. It imports nothing else of ours,
// so that a stranger can read a bundle with this package alone.
//
//	evidence/phase1/<area>/<UTC>/
//	  trace.jsonl     every observation, in order, each line naming the hash of the line before
//	  results.json    the verdicts, recomputed at will from the trace and the logs
//	  metadata.json   what ran where
//	  inventory.yaml  what was asked for, scrubbed
//	  run.log         what the suite said while it ran
//	  logs/           one gzipped log per host
//	  index.md, report.html, screenshots/hold.svg: for people
//	  SHA256SUMS      of all of the above
package evidence
