package node

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// browser accepts any certificate, and speaks HTTP/2 where it is offered.
func browser(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// webURL is where browsers find a relay that listens on loopback.
func (n *testNode) webURL() string {
	return "https://127.0.0.1:" + strings.Split(n.addr("wss"), "/")[4]
}

func TestABrowserAtTheRelaysPortSeesWhatItIsAndNobodyWhoUsesIt(t *testing.T) {
	relay := startNode(t, Config{Relay: true, Version: "1.2.3"})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}})
	submitter := startNode(t, Config{})
	connected(t, submitter, donor, relay)
	resp, page := get(t, browser(t), relay.webURL())
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%s %s %v", resp.Proto, resp.Status, resp.Header)
	}
	text := regexp.MustCompile(`\s+`).ReplaceAllString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " "), " ")
	for _, want := range []string{
		"Relaying", "wce2e 1.2.3", relay.host.ID().String(), relay.addr("wss"), "1 donors reachable", "1 circuits open",
		fmt.Sprint(volunteerLimits().Reservations, ", at most 4096 of them at one IP address"), "256 for each peer", "self-signed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	for _, n := range []*testNode{donor, submitter} {
		if strings.Contains(page, n.host.ID().String()) {
			t.Error("the page names a peer")
		}
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy: %q", policy)
	}
	if found := regexp.MustCompile(`(?i)<script|<img|<link|src=|@import|url\(`).FindString(page); found != "" {
		t.Errorf("the page loads something: %s", found)
	}
}

func TestHealthSaysWhetherItRelays(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	c := browser(t)
	if resp, body := get(t, c, relay.webURL()+"/healthz"); resp.StatusCode != http.StatusOK || body != "ok\n" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if err := relay.relay.stop("a test"); err != nil {
		t.Fatal(err)
	}
	if resp, body := get(t, c, relay.webURL()+"/healthz"); resp.StatusCode != http.StatusServiceUnavailable || body != "not relaying\n" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if _, page := get(t, c, relay.webURL()); !strings.Contains(page, "Not relaying now") {
		t.Error("the page does not say so")
	}
	if resp, _ := get(t, c, relay.webURL()+"/other"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", resp.Status)
	}
	if resp, err := c.Post(relay.webURL(), "text/plain", strings.NewReader("x")); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", resp, err)
	}
}

func TestADonorShowsNoPage(t *testing.T) {
	n := startNode(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0/tls/ws"}})
	if resp, body := get(t, browser(t), n.webURL()); resp.StatusCode != http.StatusNotFound || strings.Contains(body, "World") {
		t.Errorf("%s %q", resp.Status, body)
	}
}

func TestThePageEscapesWhatItIsGiven(t *testing.T) {
	w := httptest.NewRecorder()
	showPage(w, pageView{Version: "<script>", Addrs: []string{"/dns4/<b>/tcp/443"}, Serving: &wire.Serving{Limits: wire.RelayLimits{CircuitBytesPerSecond: 1 << 20}}})
	if body := w.Body.String(); strings.Contains(body, "<script>") || strings.Contains(body, "<b>") || !strings.Contains(body, "1.0 MiB a second") {
		t.Error(body)
	}
}

func TestSizesAndSpansAsPeopleSayThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 16 << 20: "16.0 MiB", 3 << 40: "3.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1500 * time.Millisecond: "2s", 90 * time.Second: "2m", 49*time.Hour + 20*time.Minute: "49h20m"} {
		if got := span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
