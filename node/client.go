package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/worldcompute/wce2e/node/wire"
)

var (
	// ErrNotRunning tells that no node runs in a directory.
	ErrNotRunning = errors.New("no node runs here")
	// ErrBadRequest tells that a node was asked for what cannot be: nothing
	// was tried.
	ErrBadRequest = errors.New("bad request")
)

// FetchStatus asks the node that runs in dir how it is.
func FetchStatus(ctx context.Context, dir string) (wire.Status, error) {
	var status wire.Status
	err := call(ctx, dir, http.MethodGet, "/status", nil, &status)
	return status, err
}

// Dispatch has the node that runs in dir send a task to a donor, and waits for
// the answer. A task that failed, or a donor that could not be reached, is no
// error: see the result's Status and Error. A question that is wrong in itself
// is an ErrBadRequest, whether a node runs or not.
func Dispatch(ctx context.Context, dir string, ask wire.DispatchRequest) (wire.DispatchResult, error) {
	var result wire.DispatchResult
	checked := ask // prepare fills it in, which is the node's to do
	if _, err := prepare(&checked); err != nil {
		return result, fmt.Errorf("dispatch: %w: %w", ErrBadRequest, err)
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return result, fmt.Errorf("dispatch: %w", err)
	}
	err = call(ctx, dir, http.MethodPost, "/dispatch", body, &result)
	return result, err
}

// call makes one request to the local API.
func call(ctx context.Context, dir, method, path string, body []byte, into any) error {
	socket := filepath.Join(dir, socketFile)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the node in %s: %w", dir, err)
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ask the node in %s: %w", dir, ErrNotRunning)
	}
	if err != nil {
		return fmt.Errorf("ask the node in %s: %w", dir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what can be read of it
		why := strings.TrimSpace(string(raw))
		if resp.StatusCode == http.StatusBadRequest {
			return fmt.Errorf("ask the node in %s: %w: %s", dir, ErrBadRequest, why)
		}
		return fmt.Errorf("ask the node in %s: %s: %s", dir, resp.Status, why)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("ask the node in %s: read the answer: %w", dir, err)
	}
	return nil
}
