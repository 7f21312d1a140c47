package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/node/traversal/discovery"
)

func TestANodeThatCannotRememberItsRelaysStopsInOrder(t *testing.T) {
	dir := newDir(t)
	// A directory in its place: nothing can be written there, not even by root.
	if err := os.MkdirAll(filepath.Join(dir, discovery.CacheFile, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Dir: dir})
	n.end() // fails the test when stop does
	if !strings.Contains(n.logText.String(), `msg="relays not remembered"`) {
		t.Error("it did not say so")
	}
}
