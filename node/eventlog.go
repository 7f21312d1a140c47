package node

import (
	"context"
	"log/slog"

	"github.com/worldcompute/wce2e/node/wire"
)

// logEvent writes an event as a readable line. The message of a new listen
// address is NewListenAddr(<address>), as libp2p daemons in other languages
// write it; every other message is the event's kind.
func logEvent(log *slog.Logger, ev wire.Event) {
	msg := string(ev.Kind)
	if ev.Kind == wire.ListenAddr {
		msg = "NewListenAddr(" + ev.Addr + ")"
	}
	log.LogAttrs(context.Background(), eventLevel(ev), msg, eventAttrs(ev)...)
}

// eventLevel: what failed is a warning; a liveness round trip that worked,
// or a stranger who came to nothing, is only for those who look closely; all else
// is news.
func eventLevel(ev wire.Event) slog.Level {
	switch {
	case ev.Outcome == wire.Failed,
		ev.Kind == wire.ReservationFailed, ev.Kind == wire.ReservationLost, ev.Kind == wire.RelayCircuitFailed:
		return slog.LevelWarn
	case ev.Kind == wire.RelayPing, ev.Kind == wire.ArrivalFailed:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// eventAttrs are the fields that are set, in the order of wire.Event.
func eventAttrs(ev wire.Event) []slog.Attr {
	attrs := []slog.Attr{slog.Uint64("seq", ev.Seq)}
	str := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	num := func(key string, value uint64) {
		if value != 0 {
			attrs = append(attrs, slog.Uint64(key, value))
		}
	}
	str("peer", ev.Peer)
	str("addr", ev.Addr)
	if len(ev.Addrs) > 0 {
		attrs = append(attrs, slog.Any("addrs", ev.Addrs))
	}
	str("local", ev.Local)
	str("remote", ev.Remote)
	str("relay", ev.Relay)
	str("target", ev.Target)
	str("transport", ev.Transport)
	str("route", ev.Route)
	str("security", ev.Security)
	str("muxer", ev.Muxer)
	str("direction", ev.Direction)
	str("dial", ev.Dial)
	str("conn", ev.Conn)
	str("circuit", ev.Circuit)
	str("outcome", string(ev.Outcome))
	str("failure", ev.Failure)
	if ev.MS != 0 {
		attrs = append(attrs, slog.Float64("ms", ev.MS))
	}
	if !ev.Expires.IsZero() {
		attrs = append(attrs, slog.Time("expires", ev.Expires))
	}
	if ev.Renewal {
		attrs = append(attrs, slog.Bool("renewal", true))
	}
	num("limit_seconds", uint64(ev.LimitSeconds))
	num("limit_bytes", ev.LimitBytes)
	num("bytes", ev.Bytes)
	num("received", ev.Received)
	num("sent", ev.Sent)
	str("task", ev.Task)
	str("path", string(ev.Path))
	str("status", ev.Status)
	str("module_sha256", ev.ModuleSHA256)
	str("input_sha256", ev.InputSHA256)
	str("output_sha256", ev.OutputSHA256)
	str("detail", ev.Detail)
	str("err", ev.Err)
	return attrs
}
