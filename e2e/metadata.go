package e2e

import (
	"runtime"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// spec names the document whose acceptance a bundle speaks of.
const spec = "firewall-traversal/phase1"

func (r *run) metadata() evidence.Metadata {
	m := evidence.Metadata{
		RunID: r.id, Area: r.inv.Area, Spec: spec,
		GitSHA: r.cfg.Source.Commit, SoftwareVersion: r.cfg.Version,
		StartedAt: r.began, EndedAt: time.Now().UTC(),
		Inventory: r.inv.Name, Lab: r.cfg.Lab != nil, Source: r.cfg.Source, Binaries: map[string]string{},
		Env: map[string]string{"go": runtime.Version(), "suite": runtime.GOOS + "/" + runtime.GOARCH},
	}
	for _, h := range r.hosts {
		if h.deployed.SHA256 != "" {
			m.Binaries[h.deployed.Platform] = h.deployed.SHA256
		}
		m.Machines = append(m.Machines, evidence.Machine{
			Hostname: h.facts.Hostname, OS: h.facts.Distro, Kernel: h.facts.Kernel, CPUModel: h.facts.CPUModel,
			MemoryGB: h.facts.MemoryGB, GPUs: h.facts.GPUs, NetworkProfile: r.profileOf(h),
		})
	}
	return m
}

// profileOf is what stands between a host and the internet: the lab's profile,
// or what the operator says.
func (r *run) profileOf(h *host) string {
	if r.cfg.Lab != nil {
		return r.cfg.Lab.Networks[r.cfg.Lab.Hosts[h.SSH]]
	}
	return h.Network
}
