//go:build !linux

package onhost

import "context"

// logoutWarning: nothing ends a user's processes at logout here.
func logoutWarning(context.Context) string { return "" }
