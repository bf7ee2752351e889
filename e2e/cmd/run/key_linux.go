package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"countersign.dev/e2e/softkey"
)

// securityKey is one in software, whose owner sits at the terminal: Enter touches
// it, `pull` pulls it out, `plug` plugs it in again.
type securityKey struct {
	key  *softkey.Key
	path string // the agent knows it by that

	mu    sync.Mutex
	port  *softkey.Port // nil while it is pulled out
	asked *softkey.Wanted
}

// plugInKey plugs in a new key, of which owner decides until ctx ends.
func plugInKey(ctx context.Context, owner io.Reader) (*securityKey, error) {
	finger := softkey.NewFinger()
	k := &securityKey{key: softkey.New(softkey.Options{Touch: finger.Touch})}
	port, err := k.key.Plug()
	if err != nil {
		return nil, err
	}
	k.port, k.path = port, port.Path
	go func() {
		for {
			asked, err := finger.Wanted(ctx)
			if err != nil {
				return
			}
			fmt.Println("* the security key blinks: Enter touches it")
			k.mu.Lock()
			k.asked = asked
			k.mu.Unlock()
		}
	}()
	go func() { // ends with the terminal, or with the program
		for lines := bufio.NewScanner(owner); lines.Scan(); {
			if said := k.do(strings.TrimSpace(lines.Text())); said != "" {
				fmt.Println("*", said)
			}
		}
	}()
	return k, nil
}

// do does what the owner wants, and says what came of it.
func (k *securityKey) do(what string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case what == "" && k.blinks():
		k.asked.Touch()
		k.asked = nil
		return ""
	case what == "":
		return "the security key does not blink"
	case what == "pull" && k.port != nil:
		k.port.Unplug()
		k.port = nil
		return "the security key is pulled out; plug plugs it in again"
	case what == "plug" && k.port == nil:
		if err := k.plug(); err != nil {
			return err.Error()
		}
		return "the security key is plugged in"
	case what == "pull", what == "plug":
		return "that is so already"
	default:
		return "Enter touches the security key; pull, plug"
	}
}

func (k *securityKey) blinks() bool {
	if k.asked == nil {
		return false
	}
	select {
	case <-k.asked.Over:
		return false
	default:
		return true
	}
}

// plug plugs it in where it was: the system gives out the lowest place that is
// free.
func (k *securityKey) plug() error {
	var fillers []*softkey.Port
	defer func() {
		for _, f := range fillers {
			f.Unplug()
		}
	}()
	for range 32 {
		port, err := k.key.Plug()
		if err != nil {
			return err
		}
		if port.Path == k.path {
			k.port = port
			return nil
		}
		port.Unplug()
		filler, err := softkey.New(softkey.Options{}).Plug()
		if err != nil {
			return err
		}
		fillers = append(fillers, filler)
	}
	return fmt.Errorf("%s is taken: start this again", k.path)
}

// close pulls it out for good.
func (k *securityKey) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.port != nil {
		k.port.Unplug()
		k.port = nil
	}
}
