package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/matrix"
	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/evidence"
)

// matrixFlags are those of `matrix`.
type matrixFlags struct {
	hold                          time.Duration
	jobs, repeat                  int
	seed                          uint64
	shard, rerun, out             string
	grid, asJSON                  bool
	transports                    []string
	junitFile, htmlFile, markdown string
}

func newMatrixCmd() *cobra.Command {
	var f matrixFlags
	cmd := &cobra.Command{
		Use:   "matrix [PROFILE...]",
		Short: "the acceptance run behind each firewall profile, against its ground truth",
		Long: `Matrix makes the acceptance run behind each PROFILE (none: behind all), many labs
at once, and compares what it sees with the profile's ground truth. A composition
is one argument: "symmetric + udp-blocked". With --grid it is each profile against
each, donor and submitter, over QUIC alone and TCP alone.

It leaves a folder with the table (matrix.json, index.md, matrix.html, junit.xml)
and the evidence of every run, each of which ` + "`wce2e check`" + ` judges anew.

Exit: 0 all as expected, 1 anything differs in either direction, 64 bad flags,
70 the suite itself failed.`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.common(cmd)
	fl := cmd.Flags()
	fl.DurationVar(&f.hold, "hold", 20*time.Second, "how long each run holds its relay connection")
	fl.IntVar(&f.jobs, "jobs", 0, "how many labs stand at once, at most (default: what this machine's memory allows)")
	fl.IntVar(&f.repeat, "repeat", 1, "how many times each cell is run")
	fl.Uint64Var(&f.seed, "seed", 0, "the order in which cells start, and so their neighbours (default: a random one, which is printed)")
	fl.StringVar(&f.shard, "shard", "", "only the i-th of n parts, as in 2/8: merge them with matrix merge")
	fl.StringVar(&f.rerun, "rerun-failed", "", "run what did not go as expected in this matrix again: a folder, or its matrix.json")
	fl.BoolVar(&f.grid, "grid", false, "each profile against each (default: the kinds of NAT)")
	fl.StringArrayVar(&f.transports, "transport", nil, "of the grid: quic or tcp; repeat for more (default: both, each alone)")
	cmd.AddCommand(newMatrixMergeCmd())
	return cmd
}

// common are the flags of all that writes a matrix.
func (f *matrixFlags) common(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.out, "out", "", "the folder that is made (default: evidence/phase1/firewall-traversal/<time>-matrix)")
	fl.BoolVar(&f.asJSON, "json", false, "print matrix.json")
	fl.StringVar(&f.junitFile, "junit", "", "also write JUnit XML to this file")
	fl.StringVar(&f.htmlFile, "html", "", "also write the page to this file")
	fl.StringVar(&f.markdown, "summary", "", "also append the table in Markdown to this file (default: what GITHUB_STEP_SUMMARY names)")
}

// play is a matrix under way.
type play struct {
	flags    *matrixFlags
	dir      string
	builds   *builds
	source   evidence.Source
	profiles map[string]lab.Profile // by the name that cells have
	whole    int                    // cells of the matrix of which this is a shard, or all; 0: a rerun
}

func (f *matrixFlags) run(cmd *cobra.Command, args []string) error {
	p, cells, err := f.plan(cmd, args)
	if err != nil {
		return err
	}
	r, err := p.run(cmd.Context(), cells, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	return f.finish(cmd, r, p.dir)
}

// run plays all cells and gathers what came of them.
func (p *play) run(ctx context.Context, cells []matrix.Placed, errOut io.Writer) (r matrix.Results, err error) {
	f := p.flags
	p.builds = &builds{Builder: release.Builder{Log: newTalk(errOut).Step}}
	if p.source, err = p.builds.Source(ctx); err != nil {
		return r, err
	}
	if _, _, err := p.builds.get(ctx, runtime.GOOS, runtime.GOARCH); err != nil {
		return r, err
	}
	if err := f.makeDir(&p.dir); err != nil {
		return r, err
	}
	schedule := matrix.Schedule{Jobs: f.jobs, Busy: busyCells()}
	if schedule.Jobs == 0 {
		schedule.Jobs = matrix.Room(len(cells))
	}
	fmt.Fprintf(errOut, "==> %d cells, %d at once, each held for %s, seed %d\n", len(cells), min(schedule.Jobs, len(cells)), f.hold, f.seed)
	r = matrix.Results{
		Version: matrix.Version, Software: version, Source: p.source, Began: time.Now().UTC(), Hold: evidence.Duration(f.hold), Seed: f.seed, Whole: p.whole,
	}
	if f.shard != "" {
		r.Shards = []string{f.shard}
	}
	live := f.live(errOut)
	var stop func()
	r.Outcomes = schedule.Play(ctx, matrix.Shuffle(cells, f.seed), p.cell, func(all []*matrix.Progress) { stop = live.Watch(all) })
	stop()
	r.Ended = time.Now().UTC()
	return r, nil
}

// plan works out what is to be run, and checks all that the flags say.
func (f *matrixFlags) plan(cmd *cobra.Command, args []string) (*play, []matrix.Placed, error) {
	if f.hold <= 0 {
		return nil, nil, usageError(fmt.Errorf("--hold %v: a hold takes time", f.hold))
	}
	if f.repeat < 1 || f.jobs < 0 {
		return nil, nil, usageError(errors.New("--repeat and --jobs count from 1"))
	}
	var shard matrix.Shard
	if f.shard != "" {
		var err error
		if shard, err = matrix.ParseShard(f.shard); err != nil {
			return nil, nil, usageError(fmt.Errorf("--shard: %w", err))
		}
	}
	if !cmd.Flags().Changed("seed") {
		f.seed = uint64(rand.Uint32())
	}
	if err := lab.Supported(); err != nil {
		return nil, nil, err
	}
	p := &play{flags: f, dir: f.out, profiles: map[string]lab.Profile{}}
	cells, err := f.cells(cmd, args)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range cells {
		for _, name := range []string{c.Donor, c.Submitter} {
			if p.profiles[name], err = lab.ProfileNamed(name); err != nil {
				return nil, nil, &exitError{code: exitUsage, err: err, hint: "wce2e lab list tells which there are"}
			}
		}
	}
	if f.rerun == "" {
		p.whole = len(cells)
	}
	mine := shard.Take(cells)
	if len(mine) == 0 {
		return nil, nil, usageError(fmt.Errorf("--shard %s: none of the %d cells is this shard's", f.shard, len(cells)))
	}
	return p, mine, nil
}

// cells are the whole matrix, before it is cut into shards.
func (f *matrixFlags) cells(cmd *cobra.Command, args []string) ([]matrix.Placed, error) {
	for _, t := range f.transports {
		if !f.grid || !slices.Contains(matrix.GridTransports, t) {
			return nil, usageError(fmt.Errorf("--transport %s: with --grid, there are %s", t, strings.Join(matrix.GridTransports, " and ")))
		}
	}
	if f.rerun != "" {
		if len(args) > 0 || f.grid || f.repeat > 1 {
			return nil, usageError(errors.New("--rerun-failed takes its cells from a matrix, each once, and no others"))
		}
		return f.failed(cmd)
	}
	var known []string
	for _, p := range lab.Profiles() {
		known = append(known, p.Name)
	}
	names := args
	switch {
	case len(args) == 0 && f.grid:
		names = slices.DeleteFunc(slices.Clone(matrix.NATKinds), func(n string) bool { return !slices.Contains(known, n) })
	case len(args) == 0:
		names = known
	}
	names, err := canonical(names)
	if err != nil {
		return nil, err
	}
	if f.grid {
		for _, n := range names {
			if !slices.Contains(matrix.NATKinds, n) {
				return nil, usageError(fmt.Errorf("--grid %s: theory knows which of these get through to each other: %s", n, strings.Join(matrix.NATKinds, ", ")))
			}
		}
		transports := f.transports
		if len(transports) == 0 {
			transports = matrix.GridTransports
		}
		return matrix.Place(matrix.Grid(names, transports, f.repeat)), nil
	}
	return matrix.Place(matrix.Cells(names, f.repeat)), nil
}

// canonical gives compositions the one name that they have, and each name once.
func canonical(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		p, err := lab.ProfileNamed(name)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: err, hint: "wce2e lab list tells which there are; a composition is one argument, as in \"symmetric + udp-blocked\""}
		}
		if !slices.Contains(out, p.Name) {
			out = append(out, p.Name)
		}
	}
	return out, nil
}

// failed are the cells of an earlier matrix that are to be run again, as they
// were run there.
func (f *matrixFlags) failed(cmd *cobra.Command) ([]matrix.Placed, error) {
	before, err := matrix.ReadResults(f.rerun)
	if err != nil {
		return nil, usageError(fmt.Errorf("--rerun-failed: %w", err))
	}
	if !cmd.Flags().Changed("hold") {
		f.hold = time.Duration(before.Hold)
	}
	if !cmd.Flags().Changed("seed") {
		f.seed = before.Seed
	}
	cells := before.Unexpected()
	if len(cells) == 0 {
		return nil, usageError(fmt.Errorf("--rerun-failed %s: everything there went as expected", f.rerun))
	}
	return cells, nil
}

// makeDir makes the folder to write to; of a default one, the name is new.
func (f *matrixFlags) makeDir(dir *string) error {
	if *dir == "" {
		*dir = filepath.Join("evidence", "phase1", "firewall-traversal", time.Now().UTC().Format("20060102T150405Z")+"-matrix")
	}
	if err := matrix.MakeDir(*dir); err != nil {
		return usageError(err)
	}
	return nil
}

// busyCells is how many runs may be before their hold at once. Such a run waits
// for half of its time, for timeouts mostly.
func busyCells() int { return 2 * runtime.NumCPU() }

func (f *matrixFlags) live(out io.Writer) *matrix.Live {
	l := &matrix.Live{Out: out, Hold: f.hold}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		l.Terminal = true
		l.Size = func() (int, int) {
			w, h, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 0, 0 // it has a size of its own for that
			}
			return w, h
		}
	}
	return l
}

// cell makes one run and grades it.
func (p *play) cell(ctx context.Context, c matrix.Cell, progress *matrix.Progress) (o matrix.Outcome) {
	o.Cell = c
	truth := p.profiles[c.Donor].Truth
	o.Expected = matrix.Expect(truth, p.flags.hold)
	run := performance{
		inv: c.Inventory(p.flags.hold, matrix.Faults(truth, p.flags.hold)), builds: p.builds, source: p.source,
		root: filepath.Join(p.dir, matrix.CellsDir), area: c.Folder(), talk: newTalk(io.Discard),
		watch: progress.Take, introduce: byAddress, deployed: true,
	}
	if matrix.ByName(c.Donor) {
		run.introduce = byName(run.inv.Lab.Zone)
	}
	if c.Transport != "" {
		run.transports = []string{c.Transport}
		o.Expected = matrix.ExpectPair(p.profiles[c.Donor], p.profiles[c.Submitter], c.Transport, p.flags.hold)
	}
	bundle, results, err := run.perform(ctx)
	if bundle != nil {
		err = errors.Join(err, p.grade(&o, bundle, results))
	}
	if err != nil {
		o.Err = err.Error()
	}
	return o
}

// grade compares what the bundle shows with what was expected, and keeps it. Of a
// run that went as expected nobody wants to read the report: `wce2e report` makes
// one of its bundle any time.
func (p *play) grade(o *matrix.Outcome, bundle *evidence.Writer, results evidence.Results) error {
	b, err := evidence.Open(bundle.Dir())
	if err != nil {
		return errors.Join(fmt.Errorf("read the bundle back: %w", err), bundle.Close())
	}
	o.Seen = matrix.See(b.Events, results)
	o.Expected = o.Expected.Given(o.Seen.Held)
	o.Differs = matrix.Compare(o.Expected, o.Seen)
	if err := seal(bundle, len(o.Differs) > 0); err != nil {
		return err
	}
	return o.Keep(p.dir, bundle.Dir())
}

// finish writes the matrix, prints it, and turns it into the exit code.
func (f *matrixFlags) finish(cmd *cobra.Command, r matrix.Results, dir string) error {
	err := r.Write(dir)
	err = errors.Join(err, f.also(r))
	out := cmd.OutOrStdout()
	if f.asJSON {
		raw, jerr := r.JSON()
		_, werr := out.Write(raw)
		err = errors.Join(err, jerr, werr)
	} else {
		err = errors.Join(err, r.WriteText(out))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: look at %s\n", dir, filepath.Join(dir, matrix.HTMLFile))
	if err != nil {
		return err
	}
	switch r.State() {
	case matrix.AsExpected:
		return nil
	case matrix.Differs:
		return &exitError{code: exitFail}
	}
	return &exitError{code: exitSuite}
}

// also writes the renderings that flags ask for.
func (f *matrixFlags) also(r matrix.Results) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{f.junitFile: files[matrix.JUnitFile], f.htmlFile: files[matrix.HTMLFile]} {
		if path != "" {
			err = errors.Join(err, os.WriteFile(path, content, 0o644))
		}
	}
	summary := f.markdown
	if summary == "" {
		summary = os.Getenv("GITHUB_STEP_SUMMARY")
	}
	if summary == "" {
		return err
	}
	to, oerr := os.OpenFile(summary, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if oerr != nil {
		return errors.Join(err, oerr)
	}
	_, werr := to.Write(files[matrix.IndexFile])
	return errors.Join(err, werr, to.Close())
}

func newMatrixMergeCmd() *cobra.Command {
	var f matrixFlags
	cmd := &cobra.Command{
		Use:   "merge DIR...",
		Short: "make one matrix of its shards, and of reruns",
		Long: `Merge puts the folders of the shards of one matrix together, with the evidence of
every run. Of two runs of one cell the later one counts, and the table says what
the earlier one had found. All must be of one source and one hold.

Exit: as matrix.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error { return f.merge(cmd, dirs) },
	}
	f.common(cmd)
	return cmd
}

func (f *matrixFlags) merge(cmd *cobra.Command, dirs []string) error {
	var parts []matrix.Results
	for _, d := range dirs {
		r, err := matrix.ReadResults(d)
		if err != nil {
			return usageError(err)
		}
		parts = append(parts, r)
	}
	whole, err := matrix.Merge(parts...)
	if err != nil {
		return usageError(err)
	}
	dir := f.out
	if err := f.makeDir(&dir); err != nil {
		return err
	}
	if err := whole.Gather(dir, dirs...); err != nil {
		return err
	}
	return f.finish(cmd, whole, dir)
}
