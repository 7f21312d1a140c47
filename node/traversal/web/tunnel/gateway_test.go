package tunnel

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/traversal/web/internal/gateway"
)

func TestNothingIsLostOrDoubledBehindABadGateway(t *testing.T) {
	t.Parallel()
	for name, habit := range map[string]func(*gateway.Gateway){
		"that holds back requests":                     func(*gateway.Gateway) {},
		"that cuts answers":                            func(g *gateway.Gateway) { g.CutAfter = 100_000 },
		"that cuts answers within a frame's header":    func(g *gateway.Gateway) { g.CutAfter = int64(len(magic)) + 3 + 32773 },
		"that loses answers":                           func(g *gateway.Gateway) { g.LoseEvery = 5 },
		"that refuses now and then":                    func(g *gateway.Gateway) { g.RefuseEvery = 4 },
		"that loses and refuses, and cuts the rest":    func(g *gateway.Gateway) { g.LoseEvery, g.RefuseEvery, g.CutAfter = 7, 5, 50_000 },
		"that holds back answers as well":              func(g *gateway.Gateway) { g.HoldAnswers = true },
		"that holds back answers and loses some of it": func(g *gateway.Gateway) { g.HoldAnswers, g.LoseEvery = true, 9 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := listen(t)
			g := gateway.New(t, e.Listener.Addr().String())
			// The first request passes: what becomes of an open, the caller is told.
			habit(g)
			client, server := connect(t, e, g.URL, true)
			exchange(t, client, server, 1<<20)
			if g.CutAfter > 0 && g.Cuts.Load() == 0 {
				t.Error("the gateway cut nothing")
			}
			if g.Requests.Load() < 10 {
				t.Errorf("only %d requests passed the gateway", g.Requests.Load())
			}
		})
	}
}

// TestADownloadDoesNotStallOnLateReceipts: the receipt for an acknowledgement may
// come after all the bytes that it made room for.
func TestADownloadDoesNotStallOnLateReceipts(t *testing.T) {
	t.Parallel()
	e := listen(t)
	g := gateway.New(t, e.Listener.Addr().String())
	g.DelayPosts = 50 * time.Millisecond
	client, server := connect(t, e, g.URL, true)
	const size = 6 * windowSize
	go func() { _, _ = server.Write(make([]byte, size)) }()
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.CopyN(io.Discard, client, size); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
}

func TestWordsComeAtOnceThroughAGatewayThatCutsThemOff(t *testing.T) {
	t.Parallel()
	e := listen(t)
	g := gateway.New(t, e.Listener.Addr().String())
	client, server := connect(t, e, g.URL, true)
	go func() { _, _ = io.Copy(server, server) }()
	exchangeWord := func() {
		if _, err := client.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, []byte("word")) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	exchangeWord()
	for range 5 {
		g.CloseClientConnections() // with the long answer on one of them
		within(t, time.Second, "a word after all connections broke", exchangeWord)
	}
}

func TestASessionWhoseGatewayIsGoneEnds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED: waits for retryFor to pass")
	}
	e := listen(t)
	g := gateway.New(t, e.Listener.Addr().String())
	client, _ := connect(t, e, g.URL, true)
	g.CloseClientConnections()
	g.Close()
	within(t, retryFor+5*time.Second, "noticing that nobody answers", func() {
		if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("reading from a broken tunnel: %v", err)
		}
	})
}
