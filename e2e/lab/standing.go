package lab

import "time"

// Standing is a lab that some process of this user keeps up, as other processes
// find it.
type Standing struct {
	Name      string    `json:"name"` // as Register was told; several labs may have it
	PID       int       `json:"pid"`  // of the process that keeps it
	Since     time.Time `json:"since"`
	Dir       string    `json:"dir"`
	SSHConfig string    `json:"ssh_config"`
	Hosts     []Host    `json:"hosts"`
	Routers   []string  `json:"routers"` // networks that have one
}
