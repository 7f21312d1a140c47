package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// maxSocketPath is what a sockaddr_un takes everywhere (macOS: 104 with
	// its final zero; Linux: 108).
	maxSocketPath = 103
	// maxAPIRequest bounds a dispatch request: the longest of the mesh protocol,
	// in base64.
	maxAPIRequest = 2 * wire.MaxLargeRequest
	apiHeaders    = 5 * time.Second // for the client to say what it wants
)

// apiServer is the local API: HTTP on a unix socket that only the node's user
// can open.
//
//	GET  /status    wire.Status
//	POST /dispatch  wire.DispatchRequest -> wire.DispatchResult
type apiServer struct {
	server   *http.Server
	listener net.Listener
}

func startAPI(path string, n *node) (*apiServer, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("local API: socket path %s has %d bytes, at most %d work: use a shorter --dir", path, len(path), maxSocketPath)
	}
	// The lock is ours: a socket there is one of a node that was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("local API: %w", err)
	}
	l, err := net.Listen("unix", path) // in a directory that is 0700
	if err != nil {
		return nil, fmt.Errorf("local API: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("local API: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { reply(w, n.log, n.status()) })
	mux.HandleFunc("POST /dispatch", func(w http.ResponseWriter, r *http.Request) {
		var ask wire.DispatchRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIRequest)).Decode(&ask); err != nil {
			http.Error(w, fmt.Sprintf("dispatch: %v", err), http.StatusBadRequest)
			return
		}
		result, err := n.submitter.dispatch(r.Context(), ask)
		if err != nil {
			http.Error(w, fmt.Sprintf("dispatch: %v", err), http.StatusBadRequest)
			return
		}
		reply(w, n.log, result)
	})
	a := &apiServer{server: &http.Server{Handler: mux, ReadHeaderTimeout: apiHeaders}, listener: l}
	go func() {
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("the local API ended", "err", err)
		}
	}()
	return a, nil
}

func reply(w http.ResponseWriter, log *slog.Logger, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		log.Debug("a client of the local API left early", "err", err)
	}
}

// close waits a moment for running requests, then cuts them.
func (a *apiServer) close(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := a.server.Shutdown(ctx)
	if err != nil {
		err = a.server.Close()
	}
	// The server knows its listener only once it serves. Closing it takes the
	// socket's file away; a second time is no error worth telling.
	_ = a.listener.Close()
	return err
}
