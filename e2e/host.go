package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// host is one machine of the run.
type host struct {
	inventory.Host
	run    *run
	log    *slog.Logger
	remote remote.Remote // nil until connected
	bin    string        // the binary there; empty until deployed
	unfit  bool          // for a control: it could not be prepared
	args   []string      // the node's; nil until started
	node   *node         // nil until started

	faulty sync.Mutex // held while something is done to the host on purpose

	deployed evidence.Deployment // zero until deployed
	facts    evidence.Facts      // zero until the preflight
}

const (
	connectTimeout = 30 * time.Second // TCP, SSH handshake, authentication, over the slowest line we know
	deployTimeout  = 10 * time.Minute // 40 MB over a slow uplink
	quickTimeout   = 30 * time.Second // a command that only looks
	// neededMB is what a host must have free: the binary twice while it is being
	// replaced, events and logs.
	neededMB = 200
)

// baseName is the folder that holds all of ours on a host, below the login's home.
const baseName = ".wce2e"

// BinaryPath is where on a host, below the login's home, a binary of that hash is
// kept from one run to the next.
func BinaryPath(sha256 string) string { return path.Join(baseName, "bin", sha256, "wce2e") }

func (h *host) baseDir() string { return path.Join(h.remote.Home(), baseName) }

// dir holds what the host's node leaves there. Two hosts may be one machine.
func (h *host) dir() string { return path.Join(h.baseDir(), "runs", h.run.id+"-"+h.Name) }

func (h *host) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	rm, err := h.run.cfg.Dial(ctx, h.Host)
	if err != nil {
		return err
	}
	h.remote = rm
	h.run.out.Hide(rm.Home())
	return h.run.note(evidence.HostUp, h.Name, evidence.Connected{Target: h.Scrubbed(), HostKey: rm.HostKey()})
}

// deploy puts the release binary on the host, unless it has it.
func (h *host) deploy(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	goos, goarch, err := remote.PlatformOf(asked, h.remote)
	if err != nil {
		return err
	}
	local, sum, err := h.run.cfg.Binary(ctx, goos, goarch)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	bin := path.Join(h.remote.Home(), BinaryPath(sum))
	got, err := h.binarySum(ctx, bin)
	had := err == nil && got == sum
	if !had {
		if err := h.upload(ctx, local, bin, sum); err != nil {
			return err
		}
	}
	h.bin = bin
	h.deployed = evidence.Deployment{Path: h.tilde(bin), SHA256: sum, Platform: goos + "/" + goarch, Uploaded: !had}
	return h.run.note(evidence.Deployed, h.Name, h.deployed)
}

// upload sends the binary and makes the host say what it then has.
func (h *host) upload(ctx context.Context, local, bin, sum string) error {
	free, err := remote.FreeSpace(ctx, h.remote, h.baseDir())
	if err != nil {
		return err
	}
	if free>>20 < neededMB {
		return fmt.Errorf("%d MB free for %s, %d MB needed", free>>20, h.tilde(h.baseDir()), neededMB)
	}
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.remote.Upload(ctx, bin, 0o755, f); err != nil {
		return err
	}
	got, err := h.binarySum(ctx, bin)
	if err != nil {
		return fmt.Errorf("the binary does not run there: %w", err)
	}
	if got != sum {
		return fmt.Errorf("%s arrived with SHA-256 %s instead of %s", h.tilde(bin), got, sum)
	}
	return nil
}

// binarySum asks a binary on the host for its own hash, which proves both that
// it is whole and that it runs.
func (h *host) binarySum(ctx context.Context, bin string) (string, error) {
	var file evidence.LogFile
	err := h.askBinary(ctx, bin, &file, "host", "hash", bin)
	return file.SHA256, err
}

// preflight looks at the machine before anything of ours runs on it.
func (h *host) preflight(ctx context.Context) error {
	if err := h.ask(ctx, &h.facts, "host", "facts", "--dir", h.baseDir()); err != nil {
		return err
	}
	offset, within, err := h.clockOffset(ctx)
	if err != nil {
		return err
	}
	h.facts.ClockOffsetMS, h.facts.ClockErrorMS = ms(offset), ms(within)
	if err := h.run.note(evidence.HostFacts, h.Name, h.facts); err != nil {
		return err
	}
	return h.noteLeftovers(ctx, "before")
}

// leftBehind looks at the machine once more, when all is over.
func (h *host) leftBehind(ctx context.Context) error {
	if h.bin == "" {
		return nil
	}
	return h.noteLeftovers(ctx, "after")
}

// clockOffset compares the host's clock with ours, by the quickest of a few
// questions (RFC 5905's rule: the sample of least delay is the best one).
func (h *host) clockOffset(ctx context.Context) (offset, within time.Duration, err error) {
	for range clockSamples {
		var there time.Time
		asked := time.Now()
		if err := h.ask(ctx, &there, "host", "clock"); err != nil {
			return 0, 0, err
		}
		half := time.Since(asked) / 2
		if within == 0 || half < within {
			offset, within = there.Sub(asked.Add(half)), half
		}
	}
	return offset, within, nil
}

const clockSamples = 3

func (h *host) noteLeftovers(ctx context.Context, when string) error {
	var left evidence.Leftovers
	if err := h.ask(ctx, &left, "host", "leftovers", "--dir", h.baseDir()); err != nil {
		return err
	}
	left.When = when
	if when == "before" && len(left.Processes) > 0 {
		h.run.talk.Note(fmt.Sprintf("%s: still running from an earlier run: %s", h.Name, strings.Join(left.Processes, ", ")))
	}
	if kept := len(left.Files) - 1; when == "before" && kept > 0 {
		h.run.talk.Note(fmt.Sprintf("%s: %d files of earlier runs in %s", h.Name, kept, h.tilde(h.baseDir())))
	}
	return h.run.note(evidence.Residue, h.Name, left)
}

// ask runs the deployed binary, within quickTimeout, and decodes the JSON it
// prints into answer, which may be nil.
func (h *host) ask(ctx context.Context, answer any, args ...string) error {
	if h.bin == "" {
		return errNotDeployed
	}
	return h.askBinary(ctx, h.bin, answer, args...)
}

func (h *host) askBinary(ctx context.Context, bin string, answer any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	res, err := h.remote.Exec(ctx, append([]string{bin}, args...), nil)
	if err != nil {
		return err
	}
	what := strings.Join(args[:2], " ")
	if res.Code != 0 {
		return fmt.Errorf("%s: exit %d: %s", what, res.Code, lastLine(res.Stderr))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(res.Stdout, answer); err != nil {
		return fmt.Errorf("%s: its answer: %w", what, err)
	}
	return nil
}

var errNotDeployed = errors.New("nothing is deployed there")

// exec runs the deployed binary, and leaves it to the caller what an exit code means.
func (h *host) exec(ctx context.Context, args ...string) (remote.Result, error) {
	if h.bin == "" {
		return remote.Result{}, errNotDeployed
	}
	return h.remote.Exec(ctx, append([]string{h.bin}, args...), nil)
}

// readJSON decodes a small file of the node's directory; found is false when
// the file is not there.
func (h *host) readJSON(ctx context.Context, name string, v any) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	b, err := h.remote.ReadFrom(ctx, path.Join(h.dir(), name), 0, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// tilde writes a path of the host without its home.
func (h *host) tilde(p string) string {
	if rest, ok := strings.CutPrefix(p, h.remote.Home()+"/"); ok {
		return "~/" + rest
	}
	return p
}

func lastLine(b []byte) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(lines[len(lines)-1])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
