package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// StopGrace is how long a node may take to end, and its supervisor to say so.
const StopGrace = termGrace + 5*time.Second

const stopLookEvery = 20 * time.Millisecond

// Stop ends the node of a folder and tells how it ended; also that of one that
// had ended before.
func Stop(ctx context.Context, dir string) (Ended, error) {
	who, err := readRunning(dir)
	if err != nil {
		return Ended{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, StopGrace, fmt.Errorf("it did not end within %v", StopGrace))
	defer cancel()
	if err := os.WriteFile(filepath.Join(dir, StopFile), nil, 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return Ended{}, err // without space, the signal must do
	}
	// The file would do, at the supervisor's next look; the signal is quicker.
	if err := sendSignal(who.Supervisor, who.SuperBorn, syscall.SIGTERM); err != nil && !errors.Is(err, ErrNotRunning) {
		return Ended{}, fmt.Errorf("stop the supervisor of %s: %w", dir, err)
	}
	tick := time.NewTicker(stopLookEvery)
	defer tick.Stop()
	for {
		alone := !runs(who.Supervisor, who.SuperBorn)
		var end Ended
		err := readJSON(filepath.Join(dir, ExitFile), &end)
		switch {
		case err == nil:
			return end, nil
		case !errors.Is(err, fs.ErrNotExist):
			return Ended{}, err
		case alone:
			return endAlone(dir, who)
		}
		select {
		case <-ctx.Done():
			return Ended{}, fmt.Errorf("stop the node of %s: %w", dir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// endAlone ends a node that has lost its supervisor, and says what is known.
func endAlone(dir string, who Running) (Ended, error) {
	if err := sendSignal(who.PID, who.Born, syscall.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
		return Ended{}, fmt.Errorf("kill the node of %s: %w", dir, err)
	}
	end := Ended{
		Exit:      evidence.Exit{Code: -1, Tail: tail(filepath.Join(dir, LogFile))},
		StartedAt: who.StartedAt, EndedAt: time.Now().UTC(),
		Note: "the supervisor was gone: how the node ended, and when, is not known",
	}
	return end, writeJSON(filepath.Join(dir, ExitFile), end)
}
