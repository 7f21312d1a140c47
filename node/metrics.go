package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// metricsTimeout bounds one scrape; Prometheus gives up after 10 s.
	metricsTimeout = 10 * time.Second
	// stopMetrics is what a scrape under way is given when the node stops.
	stopMetrics = 100 * time.Millisecond
)

// checkMetrics tells what is wrong with Config.Metrics.
func checkMetrics(addr string) error {
	if addr == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("metrics address %q: %w", addr, err)
	}
	return nil
}

// metricsServer tells Prometheus about the node, at /metrics.
type metricsServer struct {
	server *http.Server
	addr   net.Addr
}

// serveMetrics tells Prometheus about the node where Config.Metrics says so. It
// asks nobody who they are: the address should be one that only the operator
// reaches.
func (n *node) serveMetrics() error {
	if n.cfg.Metrics == "" {
		return nil
	}
	l, err := net.Listen("tcp", n.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("serve metrics on %s: %w", n.cfg.Metrics, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(newRegistry(n), promhttp.HandlerOpts{}))
	n.metrics = &metricsServer{addr: l.Addr(), server: &http.Server{
		Handler:     mux,
		ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}}
	n.log.Info("metrics are told", "url", "http://"+l.Addr().String()+"/metrics")
	go func() {
		if err := n.metrics.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log.Warn("metrics are no longer told", "err", err)
		}
	}()
	return nil
}

func (m *metricsServer) close() error {
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopMetrics)
	defer cancel()
	if m.server.Shutdown(ctx) == nil {
		return nil
	}
	return m.server.Close()
}

// newRegistry holds the node's metrics, and those of Go and the process. It is
// not the global one: libraries would put theirs there.
func newRegistry(n *node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(nodeMetrics{n}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// nodeMetrics reads the node's own counts when it is asked: nothing is counted
// twice.
type nodeMetrics struct{ n *node }

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wce2e_"+name, help, labels, nil)
}

var (
	mBuild        = metric("build_info", "The software: always 1.", "version", "goversion")
	mRelaying     = metric("relay_serving", "Whether this node relays for others (1) or not (0).")
	mReservations = metric("relay_reservations", "Reservations that this node holds for others.")
	mMaxReserved  = metric("relay_reservations_max", "How many reservations this node would hold.")
	mCircuitsOpen = metric("relay_circuits_open", "Circuits through this node that are open.")
	mCircuits     = metric("relay_circuits_total", "Circuits through this node that were opened.")
	mBytes        = metric("relay_bytes_total", "Bytes relayed through circuits, both ways.")
	mRefused      = metric("relay_refused_total", "Requests to this node as a relay that were refused.", "reason")
	mHeld         = metric("reservations_held", "Reservations of this node on relays.")
	mConns        = metric("connections", "Open connections.", "transport", "direction")
	mJobsRunning  = metric("jobs_running", "Jobs that run now.")
	mJobs         = metric("jobs_total", "Jobs that ended.", "outcome")
	mDials        = metric("dials_total", "Dial attempts that ended.", "outcome")
	mDialsOpen    = metric("dials_open", "Dial attempts under way.")
	mCertificate  = metric("certificate_not_after_timestamp_seconds", "When the certificate of a known authority ends; 0 while there is none yet.")
	mPublic       = metric("publicly_reachable", "Whether AutoNAT finds this node reachable from anywhere (1) or not (0).")
)

func (m nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		mBuild, mRelaying, mReservations, mMaxReserved, mCircuitsOpen, mCircuits, mBytes, mRefused, mHeld, mConns,
		mJobsRunning, mJobs, mDials, mDialsOpen, mCertificate, mPublic,
	} {
		ch <- d
	}
}

func (m nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	c := collecting{ch}
	c.gauge(mBuild, 1, m.n.cfg.Version, runtime.Version())
	c.gauge(mHeld, float64(len(m.n.keeper.Relays())))
	c.gauge(mPublic, flag(m.n.self.reachability() == reachPublic))
	m.certificate(c)
	m.relay(c)
	m.connections(c)
	m.work(c)
}

func (m nodeMetrics) relay(c collecting) {
	s, serving := m.n.relay.counts()
	c.gauge(mRelaying, flag(serving))
	c.gauge(mReservations, float64(s.Reservations))
	c.gauge(mMaxReserved, float64(s.Limits.Reservations))
	c.gauge(mCircuitsOpen, float64(s.CircuitsOpen))
	c.counter(mCircuits, float64(s.Circuits))
	c.counter(mBytes, float64(s.Bytes))
	for why, count := range s.Refused {
		c.counter(mRefused, float64(count), why)
	}
}

// certificate is told of a relay that has a name.
func (m nodeMetrics) certificate(c collecting) {
	certs, ok := m.n.certs.(*acmeCertificates)
	if !ok {
		return
	}
	var until int64
	if leaf := certs.leaf(); leaf != nil {
		until = leaf.NotAfter.Unix()
	}
	c.gauge(mCertificate, float64(until))
}

func (m nodeMetrics) connections(c collecting) {
	type kind struct{ transport, direction string }
	counts := map[kind]int{}
	for _, conn := range m.n.host.Network().Conns() {
		counts[kind{transportOf(conn.RemoteMultiaddr()), direction(conn)}]++
	}
	for k, count := range counts {
		c.gauge(mConns, float64(count), k.transport, k.direction)
	}
}

func (m nodeMetrics) work(c collecting) {
	jobs := m.n.jobs.jobCounts()
	c.gauge(mJobsRunning, float64(jobs.Running))
	c.counter(mJobs, float64(jobs.Succeeded), "succeeded")
	c.counter(mJobs, float64(jobs.Failed), "failed")
	c.counter(mJobs, float64(jobs.Refused), "refused")
	dials := m.n.rec.dialCounts()
	c.counter(mDials, float64(dials.OK), string(wire.OK))
	c.counter(mDials, float64(dials.Failed), string(wire.Failed))
	c.counter(mDials, float64(dials.Aborted), string(wire.Aborted))
	c.gauge(mDialsOpen, float64(dials.Started-dials.OK-dials.Failed-dials.Aborted))
}

// collecting is one answer to Prometheus.
type collecting struct{ ch chan<- prometheus.Metric }

func (c collecting) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c collecting) counter(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
