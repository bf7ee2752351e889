//go:build !linux

package peer

import "net/netip"

func ofListener(netip.AddrPort) (Peer, error) { return Peer{}, ErrUnsupported }
