package lab

// NAT is how a profile translates addresses and what it lets in, in the words of
// RFC 4787. The zero NAT translates nothing and lets everything in.
type NAT struct {
	Mapping   Dependence // section 4.1: what another outside port depends on
	Filtering Dependence // section 5: what has to have been sent to, to be let in
	Pool      bool       // section 4.1, pooling "arbitrary": another outside address, too
}

// Dependence is on what a behaviour of a NAT depends.
type Dependence string

const (
	EndpointIndependent Dependence = "endpoint-independent"
	AddressDependent    Dependence = "address-dependent"
	PortDependent       Dependence = "address-and-port-dependent"
)

var (
	restricted = NAT{Mapping: EndpointIndependent, Filtering: PortDependent}
	dependent  = NAT{Mapping: PortDependent, Filtering: PortDependent}
)

// nats are the profiles whose NAT is another one than that of a home.
var nats = map[string]NAT{
	"open":               {},
	"full-cone":          {Mapping: EndpointIndependent, Filtering: EndpointIndependent},
	"address-restricted": {Mapping: EndpointIndependent, Filtering: AddressDependent},
	"symmetric":          dependent,
	"cgnat-ports":        dependent,
	"nat-pool":           {Mapping: PortDependent, Filtering: PortDependent, Pool: true},
}

// NAT is how the profile translates addresses. A composed profile's is not known
// by its name, and counts as a home's.
func (p Profile) NAT() NAT {
	if n, ok := nats[p.Name]; ok {
		return n
	}
	return restricted
}
