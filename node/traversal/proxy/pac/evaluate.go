package pac

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/dop251/goja"
)

// entry is the function that a script must have.
const entry = "FindProxyForURL"

const (
	// maxStack bounds Go's stack in the evaluating process, in bytes: a script
	// nested deeper than that (some ten thousand brackets) is no honest one.
	maxStack = 64 << 20
	// maxCalls bounds the recursion of the script's own functions.
	maxCalls = 1000
	// maxMemory bounds the process's memory, in bytes, where the system can.
	maxMemory = 512 << 20
)

// serve is the evaluating process: one question, one answer.
func serve(in io.Reader, out io.Writer) error {
	debug.SetMaxStack(maxStack)
	if err := limitMemory(maxMemory); err != nil {
		return err
	}
	var q question
	e := evaluation{from: json.NewDecoder(in), to: json.NewEncoder(out), known: map[string]string{}}
	if err := e.from.Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	e.now, e.address = q.Now, q.Address
	answer, err := e.run(q)
	if err != nil {
		return e.to.Encode(reply{Error: fmt.Sprintf("%.300s", err)})
	}
	return e.to.Encode(reply{Answer: answer, Ended: true})
}

// evaluation is one script at work.
type evaluation struct {
	from    *json.Decoder
	to      *json.Encoder
	now     time.Time
	address string            // this machine's
	known   map[string]string // names that were asked for, and their addresses
}

func (e *evaluation) run(q question) (string, error) {
	vm := goja.New()
	vm.SetMaxCallStackSize(maxCalls)
	vm.SetTimeSource(func() time.Time { return e.now })
	for name, function := range e.functions(vm) {
		if err := vm.Set(name, function); err != nil {
			return "", err
		}
	}
	if _, err := vm.RunString(q.Script); err != nil {
		return "", err
	}
	find, ok := goja.AssertFunction(vm.Get(entry))
	if !ok {
		return "", errors.New(entry + " is no function")
	}
	answer, err := find(goja.Undefined(), vm.ToValue(q.URL), vm.ToValue(q.Host))
	switch {
	case err != nil:
		return "", err
	case goja.IsNull(answer), goja.IsUndefined(answer):
		return "", nil
	}
	return answer.String(), nil
}

// resolve asks the process that started us; an address is its own.
func (e *evaluation) resolve(host string) string {
	if isIPv4(host) {
		return host
	}
	address, known := e.known[host]
	if !known {
		if e.to.Encode(reply{Resolve: host}) != nil || e.from.Decode(&address) != nil {
			return ""
		}
		e.known[host] = address
	}
	return address
}
