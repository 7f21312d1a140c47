package onhost

import (
	"os"
	"path/filepath"
	"strings"
)

// gpuVendors are those whose display controllers compute. Others are the
// consoles of servers.
var gpuVendors = map[string]string{"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}

// gpus lists the graphics processors that Linux knows of, below root: by name
// where NVIDIA's driver runs, else by their PCI numbers. There are none elsewhere.
func gpus(root string) []string {
	found := []string{}
	named, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/gpus/*/information")) // the pattern is well-formed
	for _, name := range named {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if value, ok := strings.CutPrefix(line, "Model:"); ok {
				found = append(found, strings.TrimSpace(value))
			}
		}
	}
	haveNVIDIA := len(found) > 0
	devices, _ := filepath.Glob(filepath.Join(root, "sys/bus/pci/devices/*"))
	for _, dir := range devices {
		vendor := gpuVendors[readWord(dir, "vendor")]
		isDisplay := strings.HasPrefix(readWord(dir, "class"), "0x03") // PCI class 03: display controller
		if !isDisplay || vendor == "" || vendor == "NVIDIA" && haveNVIDIA {
			continue
		}
		found = append(found, vendor+" "+strings.TrimPrefix(readWord(dir, "vendor"), "0x")+":"+strings.TrimPrefix(readWord(dir, "device"), "0x"))
	}
	return found
}

func readWord(dir, name string) string {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}
