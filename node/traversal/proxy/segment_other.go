//go:build !unix

package proxy

import "errors"

func setSegment(uintptr, int) error { return errors.ErrUnsupported }
