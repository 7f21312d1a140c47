package main

import (
	"crypto/sha256"
	"encoding/hex"

	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// answers computes what a fixture's answer must be, and what must have been sent
// to get it: the check.Answers of this build's own fixtures.
func answers(fixture string, nonce []byte) (output, module, input string, err error) {
	f, err := wasmfixtures.Get(fixture)
	if err != nil {
		return "", "", "", err
	}
	task, err := f.Task(nonce)
	if err != nil {
		return "", "", "", err
	}
	return sha256Hex(task.Expected), sha256Hex(task.Module), sha256Hex(task.Input), nil
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
