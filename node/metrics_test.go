package node

import (
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/worldcompute/wce2e/node/wire"
)

// scrape reads metrics as Prometheus does: value by name and labels.
func scrape(t testing.TB, url string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, m := range sample.FindAllStringSubmatch(metricsText(t, url), -1) {
		key := m[1]
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			key += " " + l[1]
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		out[key] = value
	}
	return out
}

var (
	sample = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? (\S+)$`)
	label  = regexp.MustCompile(`="([^"]*)"`)
)

func metricsText(t testing.TB, url string) string {
	t.Helper()
	resp, body := get(t, http.DefaultClient, url)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return body
}

func (n *testNode) metricsURL() string { return "http://" + n.metrics.addr.String() + "/metrics" }

func TestMetricsTellWhatARelayAndADonorDo(t *testing.T) {
	relay := startNode(t, Config{Relay: true, Metrics: "127.0.0.1:0", Version: "1.2.3"})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}, Metrics: "127.0.0.1:0"})
	n := startNode(t, Config{})
	c := connected(t, n, donor, relay)
	relay.awaitEvent("the circuit", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitOpened })
	got := scrape(t, relay.metricsURL())
	for name, want := range map[string]float64{
		"wce2e_relay_serving": 1, "wce2e_relay_reservations": 1, "wce2e_relay_reservations_max": float64(volunteerLimits().Reservations),
		"wce2e_relay_circuits_open": 1, "wce2e_relay_circuits_total": 1,
		"wce2e_connections inbound wss": 2, "wce2e_dials_open": 0,
	} {
		if got[name] != want {
			t.Errorf("relay: %s is %v, want %v", name, got[name], want)
		}
	}
	for _, name := range []string{"wce2e_relay_bytes_total", "go_goroutines", "process_resident_memory_bytes"} {
		if got[name] <= 0 {
			t.Errorf("relay: %s is %v", name, got[name])
		}
	}
	if !strings.Contains(strings.Join(keys(got), "\n"), "wce2e_build_info go1.") {
		t.Errorf("no build among %v", keys(got))
	}
	carried := got["wce2e_relay_bytes_total"]
	got = scrape(t, donor.metricsURL())
	if got["wce2e_reservations_held"] != 1 || got["wce2e_relay_serving"] != 0 || got["wce2e_dials_total ok"] < 1 {
		t.Errorf("donor: %v", got)
	}
	c.Close()
	relay.awaitEvent("the circuit's end", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitClosed })
	got = scrape(t, relay.metricsURL())
	if got["wce2e_relay_circuits_open"] != 0 || got["wce2e_relay_circuits_total"] != 1 || got["wce2e_relay_bytes_total"] < carried {
		t.Errorf("after the circuit: %v", got)
	}
}

func keys(m map[string]float64) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestMetricsAreWellNamed(t *testing.T) {
	n := startNode(t, Config{Metrics: "127.0.0.1:0"})
	problems, err := promlint.New(strings.NewReader(metricsText(t, n.metricsURL()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsThatCannotBeToldAreAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n, err := start(Config{Dir: newDir(t), NoBootstrap: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Metrics: taken.Addr().String()})
	if err == nil {
		n.stop("test")
		t.Error("it runs without")
	}
}
