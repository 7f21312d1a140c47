package inventory

import _ "embed"

// DefaultName is the path that names the embedded inventory where no such file
// exists.
const DefaultName = "inventory/lab.yaml"

// Default is the inventory that needs nothing but this program: a simulated
// internet with a donor behind a campus firewall.
//
//go:embed lab.yaml
var Default []byte
