//go:build linux

package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/httpu"
	"github.com/huin/goupnp/soap"
)

// gatewayDevice is UPnP's Internet Gateway Device, version 1, as home routers
// have it: hosts look for it by multicast (SSDP), read from its description where
// its service WANIPConnection is, and ask that by SOAP for ports.
//
//	host ── M-SEARCH to 239.255.255.250:1900 ──▶ router
//	     ◀─ LOCATION: http://router:5000/device.xml
//	     ── GET /device.xml ──▶
//	     ── POST /connection: AddPortMapping ──▶  mapped-ports
//
// As most routers do, it maps ports only to the host that asks. Go has well-kept
// clients of UPnP, of which one takes its messages apart here, but no server.
var gatewayDevice = service{
	name: "upnp-igd",
	does: "hosts get ports of the router by UPnP",
	start: func(r *router) error {
		pages := http.NewServeMux()
		pages.HandleFunc("GET "+devicePath, func(w http.ResponseWriter, _ *http.Request) { writeXML(w, http.StatusOK, deviceXML) })
		pages.HandleFunc("GET "+servicePath, func(w http.ResponseWriter, _ *http.Request) { writeXML(w, http.StatusOK, serviceXML) })
		pages.HandleFunc("POST "+controlPath, r.control)
		return errors.Join(r.serveHTTP(devicePort, pages), r.answerSearches())
	},
	proof: provesGatewayDevice,
}

const (
	devicePort  = 5000
	devicePath  = "/device.xml"
	servicePath = "/connection.xml"
	controlPath = "/connection"

	ssdpPort = 1900
	// announced once, and then answered for half an hour, as the specification has it at least.
	ssdpMaxAge = 1800
)

var ssdpGroup = net.IPv4(239, 255, 255, 250)

// What the device and its parts are called; each has an identity of its own.
const (
	igd            = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
	wanDevice      = "urn:schemas-upnp-org:device:WANDevice:1"
	connDevice     = "urn:schemas-upnp-org:device:WANConnectionDevice:1"
	connService    = "urn:schemas-upnp-org:service:WANIPConnection:1"
	rootDevice     = "upnp:rootdevice"
	everything     = "ssdp:all"
	igdUUID        = "uuid:6c616200-0000-4000-8000-000000000001"
	wanDeviceUUID  = "uuid:6c616200-0000-4000-8000-000000000002"
	connDeviceUUID = "uuid:6c616200-0000-4000-8000-000000000003"
)

var targets = []struct{ kind, uuid string }{
	{rootDevice, igdUUID}, {igd, igdUUID}, {wanDevice, wanDeviceUUID}, {connDevice, connDeviceUUID}, {connService, connDeviceUUID},
}

// answerSearches tells whoever looks for one of the targets where the description is.
func (r *router) answerSearches() error {
	var c *net.UDPConn
	err := r.ns.do(func() error {
		inside, err := net.InterfaceByName(lan)
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp4", inside, &net.UDPAddr{IP: ssdpGroup, Port: ssdpPort})
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for UPnP's searches: %w", err)
	}
	answer := func(q *http.Request) {
		to, err := netip.ParseAddrPort(q.RemoteAddr)
		if err != nil || q.Method != "M-SEARCH" || q.Header.Get("MAN") != `"ssdp:discover"` {
			return
		}
		for _, t := range targets {
			if st := q.Header.Get("ST"); st == t.kind || st == everything {
				_, _ = c.WriteToUDPAddrPort(r.found(t.kind, t.uuid), to) // whoever searches asks again
			}
		}
	}
	go func() { r.fail(fmt.Errorf("answer UPnP's searches: %w", httpu.Serve(c, httpu.HandlerFunc(answer)))) }()
	return nil
}

func (r *router) found(kind, uuid string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=%d\r\nEXT:\r\nLOCATION: http://%s%s\r\nSERVER: %s\r\nST: %s\r\nUSN: %s::%s\r\n\r\n",
		ssdpMaxAge, netip.AddrPortFrom(r.addr, devicePort), devicePath, upnpServer, kind, uuid, kind)
}

const upnpServer = "Linux UPnP/1.0 lab/1.0"

func writeXML(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", `text/xml; charset="utf-8"`)
	w.Header().Set("Server", upnpServer)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(xml.Header + text))
}

// deviceXML is the device's description, of which clients use the tree.
const deviceXML = `<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>` + igd + `</deviceType><friendlyName>home router</friendlyName><manufacturer>lab</manufacturer><modelName>lab</modelName><UDN>` + igdUUID + `</UDN>
<deviceList><device><deviceType>` + wanDevice + `</deviceType><friendlyName>WAN</friendlyName><manufacturer>lab</manufacturer><modelName>lab</modelName><UDN>` + wanDeviceUUID + `</UDN>
<deviceList><device><deviceType>` + connDevice + `</deviceType><friendlyName>connection</friendlyName><manufacturer>lab</manufacturer><modelName>lab</modelName><UDN>` + connDeviceUUID + `</UDN>
<serviceList><service><serviceType>` + connService + `</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>` + servicePath + `</SCPDURL><controlURL>` + controlPath + `</controlURL><eventSubURL></eventSubURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>
`

// serviceXML would describe each action's arguments; clients know them.
const serviceXML = `<scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<actionList><action><name>AddPortMapping</name></action><action><name>DeletePortMapping</name></action>
<action><name>GetSpecificPortMappingEntry</name></action><action><name>GetGenericPortMappingEntry</name></action>
<action><name>GetExternalIPAddress</name></action><action><name>GetNATRSIPStatus</name></action>
<action><name>GetStatusInfo</name></action><action><name>GetConnectionTypeInfo</name></action></actionList></scpd>
`

// The errors of WANIPConnection:1 that clients act upon.
var (
	errInvalidAction = upnpError{401, "Invalid Action"}
	errInvalidArgs   = upnpError{402, "Invalid Args"}
	errActionFailed  = upnpError{501, "Action Failed"}
	errNotAuthorized = upnpError{606, "Action not authorized"}
	errNoSuchIndex   = upnpError{713, "SpecifiedArrayIndexInvalid"}
	errNoSuchEntry   = upnpError{714, "NoSuchEntryInArray"}
	errConflict      = upnpError{718, "ConflictInMappingEntry"}
)

type upnpError struct {
	code int
	text string
}

func (e upnpError) Error() string { return fmt.Sprintf("%d %s", e.code, e.text) }

// arg is an argument or a result. Their order matters to some clients.
type arg struct{ name, value string }

type args []arg

func (as args) get(name string) string {
	i := slices.IndexFunc(as, func(a arg) bool { return a.name == name })
	if i < 0 {
		return ""
	}
	return strings.TrimSpace(as[i].value)
}

// control carries out what a SOAP message asks for.
func (r *router) control(w http.ResponseWriter, q *http.Request) {
	action, in, err := readSOAP(w, q)
	var out args
	if err == nil {
		out, err = r.act(action, in, q.RemoteAddr)
	}
	if err != nil {
		e, ok := errors.AsType[upnpError](err)
		if !ok {
			e = upnpError{errActionFailed.code, err.Error()}
		}
		writeXML(w, http.StatusInternalServerError, envelope(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0">`+
			args{{"errorCode", strconv.Itoa(e.code)}, {"errorDescription", e.text}}.xml()+`</UPnPError></detail></s:Fault>`))
		return
	}
	writeXML(w, http.StatusOK, envelope(fmt.Sprintf(`<u:%[1]sResponse xmlns:u="%[2]s">%[3]s</u:%[1]sResponse>`, action, connService, out.xml())))
}

// maxSOAP is far more than the longest request has.
const maxSOAP = 64 << 10

func readSOAP(w http.ResponseWriter, q *http.Request) (action string, in args, err error) {
	var message struct {
		Body struct {
			Action struct {
				XMLName xml.Name
				Args    []struct {
					XMLName xml.Name
					Value   string `xml:",chardata"`
				} `xml:",any"`
			} `xml:",any"`
		}
	}
	if err := xml.NewDecoder(http.MaxBytesReader(w, q.Body, maxSOAP)).Decode(&message); err != nil {
		return "", nil, errInvalidAction
	}
	for _, a := range message.Body.Action.Args {
		in = append(in, arg{a.XMLName.Local, a.Value})
	}
	return message.Body.Action.XMLName.Local, in, nil
}

func envelope(body string) string {
	return `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>` + body + `</s:Body></s:Envelope>`
}

func (as args) xml() string {
	var b bytes.Buffer
	for _, a := range as {
		fmt.Fprintf(&b, "<%s>", a.name)
		_ = xml.EscapeText(&b, []byte(a.value)) // a buffer takes everything
		fmt.Fprintf(&b, "</%s>", a.name)
	}
	return b.String()
}

func (r *router) act(action string, in args, from string) (args, error) {
	host, err := netip.ParseAddrPort(from)
	if err != nil {
		return nil, err
	}
	switch action {
	case "GetExternalIPAddress":
		outside, err := r.outside()
		return args{{"NewExternalIPAddress", outside.String()}}, err
	case "GetNATRSIPStatus":
		return args{{"NewRSIPAvailable", "0"}, {"NewNATEnabled", "1"}}, nil
	case "GetStatusInfo":
		return args{{"NewConnectionStatus", "Connected"}, {"NewLastConnectionError", "ERROR_NONE"}, {"NewUptime", "1"}}, nil
	case "GetConnectionTypeInfo":
		return args{{"NewConnectionType", "IP_Routed"}, {"NewPossibleConnectionTypes", "IP_Routed"}}, nil
	case "AddPortMapping":
		return nil, r.addPortMapping(in, host.Addr())
	case "DeletePortMapping":
		return nil, r.deletePortMapping(in, host.Addr())
	case "GetSpecificPortMappingEntry":
		return r.specificMapping(in)
	case "GetGenericPortMappingEntry":
		return r.genericMapping(in)
	}
	return nil, errInvalidAction
}

func (r *router) addPortMapping(in args, host netip.Addr) error {
	proto, outside, err := in.port()
	if err != nil {
		return err
	}
	inside, err1 := strconv.ParseUint(in.get("NewInternalPort"), 10, 16)
	life, err2 := strconv.ParseUint(cmp.Or(in.get("NewLeaseDuration"), "0"), 10, 32)
	client, err3 := netip.ParseAddr(in.get("NewInternalClient"))
	switch {
	case errors.Join(err1, err2, err3) != nil || inside == 0 || outside == 0:
		return errInvalidArgs
	case client != host:
		return errNotAuthorized
	}
	err = r.ports.add(proto, mapping{outside: outside, inside: netip.AddrPortFrom(client, uint16(inside)), life: time.Duration(life) * time.Second})
	if errors.Is(err, errTaken) {
		return errConflict
	}
	return err
}

func (r *router) deletePortMapping(in args, host netip.Addr) error {
	proto, outside, err := in.port()
	if err != nil {
		return err
	}
	n, err := r.ports.remove(proto, func(m mapping) bool { return m.outside == outside && m.inside.Addr() == host })
	if err == nil && n == 0 {
		err = errNoSuchEntry
	}
	return err
}

func (r *router) specificMapping(in args) (args, error) {
	proto, outside, err := in.port()
	if err != nil {
		return nil, err
	}
	all, err := r.ports.list(proto)
	i := slices.IndexFunc(all, func(m mapping) bool { return m.outside == outside })
	if err == nil && i < 0 {
		err = errNoSuchEntry
	}
	if err != nil {
		return nil, err
	}
	return all[i].entry(), nil
}

// genericMapping counts through the mappings, those of TCP first.
func (r *router) genericMapping(in args) (args, error) {
	n, err := strconv.Atoi(in.get("NewPortMappingIndex"))
	if err != nil || n < 0 {
		return nil, errInvalidArgs
	}
	for _, proto := range []transport{viaTCP, viaUDP} {
		all, err := r.ports.list(proto)
		if err != nil {
			return nil, err
		}
		if n < len(all) {
			which := args{{"NewRemoteHost", ""}, {"NewExternalPort", strconv.Itoa(int(all[n].outside))}, {"NewProtocol", strings.ToUpper(proto.String())}}
			return append(which, all[n].entry()...), nil
		}
		n -= len(all)
	}
	return nil, errNoSuchIndex
}

func (m mapping) entry() args {
	return args{
		{"NewInternalPort", strconv.Itoa(int(m.inside.Port()))},
		{"NewInternalClient", m.inside.Addr().String()},
		{"NewEnabled", "1"},
		{"NewPortMappingDescription", ""},
		{"NewLeaseDuration", strconv.Itoa(int(m.life.Seconds()))},
	}
}

// port is which port of the router a request is about.
func (as args) port() (transport, uint16, error) {
	outside, err := strconv.ParseUint(as.get("NewExternalPort"), 10, 16)
	switch proto := as.get("NewProtocol"); {
	case err != nil:
		return 0, 0, errInvalidArgs
	case proto == "TCP":
		return viaTCP, uint16(outside), nil
	case proto == "UDP":
		return viaUDP, uint16(outside), nil
	}
	return 0, 0, errInvalidArgs
}

// provesGatewayDevice looks for the device and asks it for a port of either
// protocol: one is taken away, the other's lease passes.
func provesGatewayDevice(t *trial) error {
	control, err := t.findDevice()
	if err != nil {
		return err
	}
	ask := func(action string, in, out any) error {
		client := soap.SOAPClient{EndpointURL: *control, HTTPClient: *t.client()}
		if err := client.PerformActionCtx(t.ctx, connService, action, in, out); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return nil
	}
	var outside struct{ NewExternalIPAddress string }
	if err := ask("GetExternalIPAddress", nil, &outside); err != nil {
		return err
	}
	if outside.NewExternalIPAddress != t.egress.String() {
		return fmt.Errorf("it says that its address is %s, which is %s", outside.NewExternalIPAddress, t.egress)
	}
	type which struct{ NewRemoteHost, NewExternalPort, NewProtocol string }
	type request struct {
		NewRemoteHost, NewExternalPort, NewProtocol, NewInternalPort, NewInternalClient, NewEnabled, NewPortMappingDescription, NewLeaseDuration string
	}
	const port, inside = 7003, 4003
	lease := strconv.Itoa(int(provingTimer.Seconds()))
	for _, proto := range []transport{viaTCP, viaUDP} {
		name := strings.ToUpper(proto.String())
		if err := ask("AddPortMapping", &request{"", strconv.Itoa(port), name, strconv.Itoa(inside), t.host.addr.String(), "1", "a proof", lease}, nil); err != nil {
			return err
		}
		if err := t.leadsIn(proto, port, inside); err != nil {
			return err
		}
	}
	stranger := request{"", "7004", "TCP", "22", t.router.addr.String(), "1", "another host's", lease}
	if err := ask("AddPortMapping", &stranger, nil); err == nil {
		return errors.New("a host may map ports to another one")
	}
	if err := ask("DeletePortMapping", &which{"", strconv.Itoa(port), "TCP"}, nil); err != nil {
		return err
	}
	if err := t.leadsNowhere(viaTCP, port, inside); err != nil {
		return err
	}
	if err := t.pause(provingTimer + expirySlack); err != nil {
		return err
	}
	t.saw("port %d leads in by TCP until it is taken away, by UDP for %s s", port, lease)
	return t.leadsNowhere(viaUDP, port, inside)
}

// findDevice searches as hosts do, and reads the description for where to ask.
func (t *trial) findDevice() (*url.URL, error) {
	c, err := t.packets(t.host, 0, netip.AddrPortFrom(netip.AddrFrom4([4]byte(ssdpGroup.To4())), ssdpPort))
	if err != nil {
		return nil, err
	}
	if err := c.write("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + connService + "\r\n\r\n"); err != nil {
		return nil, err
	}
	text, _, err := c.read(answerWait)
	if err != nil {
		return nil, fmt.Errorf("the search is not answered: %w", err)
	}
	found, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		return nil, err
	}
	at, err := found.Location()
	if err != nil {
		return nil, err
	}
	page, err := t.client().Get(at.String())
	if err != nil {
		return nil, err
	}
	defer page.Body.Close()
	var device goupnp.RootDevice
	if err := xml.NewDecoder(page.Body).Decode(&device); err != nil {
		return nil, fmt.Errorf("read the description of the device: %w", err)
	}
	device.SetURLBase(at)
	services := device.Device.FindService(connService)
	if len(services) != 1 {
		return nil, fmt.Errorf("the device has %d services %s", len(services), connService)
	}
	return &services[0].ControlURL.URL, nil
}

// client makes HTTP requests from the host.
func (t *trial) client() *http.Client {
	return &http.Client{Timeout: answerWait, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return t.host.ns.dial(ctx, network, addr)
	}}}
}
