package onhost

import (
	"encoding/json"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// RunSupervisor is the body of the process that Start starts: Supervise, with
// word of how its start went to the process that waits for it. It must be given
// the whole process. A nil log is discarded.
func RunSupervisor(dir string, lease time.Duration, argv []string, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tells := os.NewFile(upFD, "start")
	syscall.CloseOnExec(upFD) // the node is not to hold it
	said := false
	say := func(word upMessage) error {
		said = true
		defer tells.Close()
		return json.NewEncoder(tells).Encode(word)
	}
	err := Supervise(dir, lease, argv, log, func(who Running) error {
		if err := say(upMessage{Running: who}); err != nil {
			log.Warn("nobody waits for the node", "err", err) // it lives as long as its lease
		}
		return nil
	})
	if err != nil && !said {
		_ = say(upMessage{Err: err.Error()}) // should that fail, the error still goes to the log
	}
	return err
}
