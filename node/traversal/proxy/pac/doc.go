// Package pac asks a proxy auto-configuration file which proxy leads to an
// address. Such a file is a JavaScript program, published by the network, with
// one function in it:
//
//	function FindProxyForURL(url, host) {
//		if (isPlainHostName(host)) return "DIRECT";
//		return "PROXY proxy.example.edu:3128; DIRECT";
//	}
//
// Who answers for the network's DNS can make us run one, so it is not trusted
// with anything: it runs in a process of its own that has no environment, no
// network and little memory, and is killed when it takes too long. Within our
// own process a megabyte of "(" would be the end of it: the parser's recursion
// overflows Go's stack, which nothing can recover from.
//
//	Find --question--> process: goja   alone on this side: no files, no sockets
//	     <--dnsResolve?--
//	     --address-->
//	     <--"PROXY ..."--
package pac
