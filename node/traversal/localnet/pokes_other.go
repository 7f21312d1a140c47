//go:build !linux

package localnet

import (
	"context"
	"errors"
)

// pokes is not there: this system is asked every few seconds instead.
func pokes(context.Context) (<-chan struct{}, error) { return nil, errors.ErrUnsupported }
