package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/worldcompute/wce2e/evidence"
)

const logChunk = 1 << 20 // bytes fetched at once: each costs four round trips

// collect ends what runs on the host, fetches what it said, and removes it. What
// fails is reported after the rest has been tried.
func (h *host) collect(ctx context.Context) error {
	if h.bin == "" {
		return nil
	}
	var errs []error
	if h.node != nil {
		errs = append(errs, h.stop(ctx), h.fetch(ctx))
	}
	if !h.run.cfg.Keep {
		errs = append(errs, h.ask(ctx, nil, "host", "clean", "--dir", h.dir()))
	}
	return errors.Join(errs...)
}

// stop writes down the node's last status and ends it. A node that had ended by
// itself a moment ago is found out by what its supervisor says.
func (h *host) stop(ctx context.Context) error {
	defer h.node.stopWatch()
	if h.node.ended() != nil {
		return nil
	}
	var errs []error
	var status json.RawMessage
	if err := h.ask(ctx, &status, "node", "status", "--dir", h.dir(), "--json"); err != nil {
		h.log.Warn("last status", "err", err) // it may be hanging: that is what its log will tell
	} else {
		errs = append(errs, h.run.note(evidence.NodeStatus, h.Name, status))
	}
	var exit exitRecord
	if err := h.ask(ctx, &exit, "host", "stop", "--dir", h.dir()); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if !exit.Asked {
		h.endedUnasked(exit.Exit)
	}
	return errors.Join(errs...)
}

// fetch brings the rest of the events and the log, with the hashes that the
// host computed of them.
func (h *host) fetch(ctx context.Context) error {
	var errs []error
	for {
		more, err := h.catchUp(ctx)
		errs = append(errs, err)
		if !more || err != nil {
			break
		}
	}
	var events, log evidence.LogFile
	if err := h.ask(ctx, &events, "host", "hash", path.Join(h.dir(), eventsFile)); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, h.run.note(evidence.EventsHashed, h.Name, events))
	}
	if err := h.ask(ctx, &log, "host", "hash", path.Join(h.dir(), logFile)); err != nil {
		return errors.Join(append(errs, err)...)
	}
	file := &remoteFile{ctx: ctx, host: h, path: path.Join(h.dir(), logFile), left: log.Size}
	kept, err := h.run.out.WriteLog(h.Name, bufio.NewReaderSize(file, logChunk), evidence.DefaultLogBudget)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("fetch %s: %w", logFile, err))...)
	}
	kept.SHA256, kept.Size = log.SHA256, log.Size // the host's word; the reader hashes what arrived
	return errors.Join(append(errs, h.run.note(evidence.LogCollected, h.Name, kept))...)
}

// remoteFile reads a host's file from its beginning, up to the size it had when
// it was hashed.
type remoteFile struct {
	ctx    context.Context
	host   *host
	path   string
	offset int64
	left   int64
}

func (f *remoteFile) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	want := min(int64(len(p)), f.left)
	b, err := f.host.remote.ReadFrom(f.ctx, f.path, f.offset, want)
	if err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, fmt.Errorf("%s: %w: it has become shorter", f.path, fs.ErrInvalid)
	}
	n := copy(p, b)
	f.offset, f.left = f.offset+int64(n), f.left-int64(n)
	return n, nil
}
