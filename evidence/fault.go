package evidence

import "fmt"

// Fault is something that was done on purpose to a host or to a network.
type Fault struct {
	// Fault is what was done, as inventories call it, or FaultPlug.
	Fault   string `json:"fault"`
	Network string `json:"network,omitempty"` // that it was done to, where that is no host
	To      string `json:"to,omitempty"`      // of FaultRoam: the network that the host is in from then on
	Profile string `json:"profile,omitempty"` // of FaultSetProfile: the network's from then on
	Addr    string `json:"addr,omitempty"`    // of FaultRoam, FaultReaddress: where the host, or the network, is seen from then on
	Detail  string `json:"detail,omitempty"`
}

// What can be done.
const (
	FaultKill         = "kill"
	FaultStop         = "stop"
	FaultRestart      = "restart"
	FaultLogin        = "login"
	FaultUnplug       = "unplug"
	FaultPlug         = "plug" // the end of an unplug that was to last for a time
	FaultRoam         = "roam"
	FaultRebootRouter = "reboot-router"
	FaultReaddress    = "readdress"
	FaultSetProfile   = "set-profile"
)

// Say tells what was done to a host, or to a network, in words that follow "this
// was done:".
func (f Fault) Say(host string) string {
	switch f.Fault {
	case FaultLogin:
		return fmt.Sprintf("login of %s at its captive portal", host)
	case FaultUnplug:
		return fmt.Sprintf("the link of %s cut", host)
	case FaultPlug:
		return fmt.Sprintf("the link of %s mended", host)
	case FaultRoam:
		return fmt.Sprintf("%s moved to the network %s%s", host, f.To, f.seen())
	case FaultRebootRouter:
		return fmt.Sprintf("the router of %s rebooted", f.Network)
	case FaultReaddress:
		return fmt.Sprintf("the router of %s given another address%s", f.Network, f.seen())
	case FaultSetProfile:
		return fmt.Sprintf("the firewall of %s replaced by %s", f.Network, f.Profile)
	}
	return fmt.Sprintf("%s of the node on %s", f.Fault, host)
}

func (f Fault) seen() string {
	if f.Addr == "" {
		return ""
	}
	return ", seen at " + f.Addr + " from then on"
}
