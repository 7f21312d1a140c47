// Package proxy dials TCP where the way out may lead through a proxy.
//
// Companies, hospitals and schools often let nothing out but what their proxy
// carries. It is named by the environment (HTTPS_PROXY and its relatives), or
// announced by the network: a script that the name wpad, in the machine's own
// domain, serves (Web Proxy Auto-Discovery, and package pac). Often enough the
// proxy is stale, or not needed at all. So nothing is believed: the ways race,
// the likeliest one ahead by a moment, and the first that stands is taken.
//
//	Dial relay.example.org:443
//	  |
//	  +-- through http://proxy.example.edu:3128 ----CONNECT----> relay
//	  +-- directly, 250 ms later or when the proxy refuses ----> relay
//
// What goes through a proxy is encrypted and authenticated end to end by those
// who call Dial; a proxy, also one that somebody slipped in, can refuse and no
// more. The credentials are another matter: they go only to the proxy they are
// meant for, and never into an error, a log or an event.
package proxy
