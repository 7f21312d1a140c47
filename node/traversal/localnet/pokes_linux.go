package localnet

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pokes says, without saying what, that something of the network may have
// changed. It closes when it can say no more, at the end of ctx at the latest.
func pokes(ctx context.Context) (<-chan struct{}, error) {
	return subscribe(ctx, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
}

// subscribe listens to groups of the kernel's messages until ctx ends. What
// they say is not read: who is poked looks for himself, and then it does not
// matter that the kernel drops messages when there are many (ENOBUFS).
func subscribe(ctx context.Context, groups ...uint) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the kernel's network messages: %w", err)
	}
	out := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, socket.Close)
	go func() {
		defer close(out)
		defer func() {
			if stop() {
				socket.Close()
			}
		}()
		for {
			if _, _, err := socket.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return
			}
			select {
			case out <- struct{}{}:
			default: // one is waiting, and stands for this one
			}
		}
	}()
	return out, nil
}
