package onhost

import "testing"

func TestALoginSessionIsKnownByItsControlGroup(t *testing.T) {
	for groups, want := range map[string]bool{
		"0::/user.slice/user-1000.slice/session-3.scope\n":                           true,
		"12:pids:/x\n1:name=systemd:/user.slice/user-0.slice/session-c1.scope\n0::/": true,
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n":   false,
		"0::/system.slice/ssh.service\n":                                             false,
		"":                                                                           false,
	} {
		if got := inSession(groups); got != want {
			t.Errorf("%q: %v", groups, got)
		}
	}
}
