package main

import (
	"fmt"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/evidence/report"
)

// renderings gives the renderings of a bundle: the report, and of a diagnosis its page.
func renderings(b *evidence.Bundle) (map[string][]byte, error) {
	files, err := report.Render(b)
	if err != nil {
		return nil, fmt.Errorf("render the bundle: %w", err)
	}
	list := networks(b)
	if len(list) == 0 {
		return files, nil
	}
	page, err := report.RenderDiagnosis(b, list)
	if err != nil {
		return nil, fmt.Errorf("render the diagnosis: %w", err)
	}
	files[report.DiagnosisFile] = page
	return files, nil
}

// networks are the diagnoses of a bundle, computed anew.
func networks(b *evidence.Bundle) []report.Network {
	var list []report.Network
	for _, n := range check.Networks(check.Input{Events: b.Events}) {
		list = append(list, report.Network(n))
	}
	return list
}
