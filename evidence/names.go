package evidence

// Names lists every event name that this version writes, in the order of
// event.go. The reader calls any other one a problem: the trace is of a newer
// writer, and what its line says would go unjudged.
var Names = []Name{
	RunStarted, LabUp, HostUp, HostFacts, Deployed, NodeUp, NodeSaid, NodeStatus, NodeExited, DialProbed, NetProbed,
	JobDone, StepFailed, HoldStarted, HoldEnded, FaultDone, Residue, LogCollected, EventsHashed, SuiteFailed, RunEnded,
}

var known = func() map[Name]bool {
	m := make(map[Name]bool, len(Names))
	for _, n := range Names {
		m[n] = true
	}
	return m
}()
