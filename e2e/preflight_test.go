package e2e

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// machine is a host that answers a few commands and has no files.
type machine struct {
	uname string
	df    string // its answer to df -Pk
}

func (m machine) ExecLive(ctx context.Context, argv []string, _ io.Writer) (remote.Result, error) {
	return m.Exec(ctx, argv, nil)
}

func (m machine) Exec(_ context.Context, argv []string, _ io.Reader) (remote.Result, error) {
	switch argv[0] {
	case "uname":
		return remote.Result{Stdout: []byte(m.uname + "\n")}, nil
	case "df":
		return remote.Result{Stdout: []byte(m.df)}, nil
	}
	return remote.Result{Code: 127, Stderr: []byte(argv[0] + ": not found\n")}, nil
}

func (machine) Upload(context.Context, string, uint32, io.Reader) error { return nil }
func (machine) ReadFrom(context.Context, string, int64, int64) ([]byte, error) {
	return nil, fs.ErrNotExist
}
func (machine) Home() string    { return "/home/user" }
func (machine) HostKey() string { return "SHA256:x" }
func (machine) Close() error    { return nil }

const (
	roomy = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9000000 0 9000000 0% /home\n"
	full  = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9000000 8950000 50000 99% /home\n"
)

// TestAHostThatCannotBeUsedEndsTheRunWithOneLineAndABundle shows what is said
// of hosts that fail before any node was started, and that it is kept.
func TestAHostThatCannotBeUsedEndsTheRunWithOneLineAndABundle(t *testing.T) {
	for _, c := range []struct {
		name string
		dial func(h inventory.Host) (remote.Remote, error)
		want []string
	}{
		{"refuses", func(h inventory.Host) (remote.Remote, error) {
			return nil, errors.New("dial tcp 127.0.0.1:1: connect: connection refused")
		}, []string{"tensor02: connect: dial tcp 127.0.0.1:1: connect: connection refused", "laptop: connect: dial tcp"}},
		{"has a processor we have no build for", func(h inventory.Host) (remote.Remote, error) {
			return machine{uname: "Linux mips", df: roomy}, nil
		}, []string{"tensor02: deploy: ", "mips"}},
		{"has no space", func(h inventory.Host) (remote.Remote, error) {
			return machine{uname: "Linux x86_64", df: full}, nil
		}, []string{"tensor02: deploy: 48 MB free for ~/.wce2e, 200 MB needed"}},
		{"does not run the binary", func(h inventory.Host) (remote.Remote, error) {
			return machine{uname: "Linux x86_64", df: roomy}, nil
		}, []string{"tensor02: deploy: the binary does not run there"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv, err := inventory.Parse(inventory.DefaultName, inventory.Default)
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			bundle, err := evidence.Create(root, inv.Area, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			results, err := Run(t.Context(), Config{
				Inventory: inv, Bundle: bundle,
				Dial: func(_ context.Context, h inventory.Host) (remote.Remote, error) { return c.dial(h) },
				Binary: func(_ context.Context, goos, goarch string) (string, string, error) {
					if goarch != "amd64" {
						return "", "", errors.New("there is no build for " + goos + "/" + goarch)
					}
					return "/dev/null", strings.Repeat("0", 64), nil
				},
			})
			if err == nil {
				t.Fatal("the run did not fail")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(inv.Hosts) {
				t.Errorf("%d lines for %d hosts: %q", lines, len(inv.Hosts), err)
			}
			if v := results.Verdict(); v != evidence.Inconclusive {
				t.Errorf("verdict %s, want %s", v, evidence.Inconclusive)
			}
			b, err := evidence.Open(bundle.Dir())
			if err != nil {
				t.Fatal(err)
			}
			said := b.Events[len(b.Events)-2]
			if said.Name != evidence.SuiteFailed || !strings.Contains(string(said.Data), "tensor02: ") {
				t.Errorf("the trace ends with %s %s, and not with what failed", said.Name, said.Data)
			}
		})
	}
}
