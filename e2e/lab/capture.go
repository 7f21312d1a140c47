package lab

// Capture says what of a lab's traffic to record.
type Capture struct {
	// Links are a host, whose interfaces are taken; a network, of whose router both
	// lan and wan are, so that address translation is seen from both sides; or one
	// of those, as in campus/wan. Several links make one recording.
	Links []string
	// Snaplen is how many bytes are kept of each frame; 0 means all.
	Snaplen int
}
