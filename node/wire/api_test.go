package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestADispatchResultAlwaysHasItsError(t *testing.T) {
	raw, err := json.Marshal(DispatchResult{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), `"error":""`) {
		t.Errorf("%s", raw)
	}
}
