package watch

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"sync"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// message is what the world tells the runner; one member is set.
type message struct {
	listed    *api.PromptList // after the agent was reached
	refreshed *api.PromptList
	event     *api.Event
	lost      error // the agent cannot be reached
	decided   *result
	panicked  string
}

// result is what came of an answer.
type result struct {
	id      string
	outcome api.PromptOutcome
	err     error
}

// How long it waits before it looks for the agent again.
const (
	firstWait = 500 * time.Millisecond
	longWait  = 20 * time.Second
)

// stream asks the agent, and brings what it says to the runner.
type stream struct {
	agent    Agent
	messages chan message
	done     <-chan struct{} // nobody reads messages any more
	running  sync.WaitGroup
}

// do runs f beside the runner. A panic becomes the runner's, which knows how to
// leave the terminal.
func (s *stream) do(f func()) {
	s.running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				s.tell(message{panicked: fmt.Sprintf("%v\n%s", p, debug.Stack())})
			}
		}()
		f()
	})
}

func (s *stream) wait() { s.running.Wait() }

func (s *stream) tell(m message) {
	select {
	case s.messages <- m:
	case <-s.done:
	}
}

// connect subscribes first and lists second, so that nothing is missed.
func (s *stream) connect(ctx context.Context) (iter.Seq2[api.Event, error], api.PromptList, error) {
	ctx, cancel := context.WithCancel(ctx)
	events, err := s.agent.Subscribe(ctx, frontEnd)
	if err != nil {
		cancel()
		return nil, api.PromptList{}, err
	}
	list, err := s.agent.Prompts(ctx, frontEnd)
	if err != nil {
		cancel()
		return nil, api.PromptList{}, err
	}
	return func(yield func(api.Event, error) bool) {
		defer cancel()
		events(yield)
	}, list, nil
}

// follow passes on what the agent tells. When it is gone it is looked for, less
// and less often, until ctx ends.
func (s *stream) follow(ctx context.Context, events iter.Seq2[api.Event, error], list api.PromptList) {
	for {
		s.tell(message{listed: &list})
		var why error
		for e, err := range events {
			if err != nil {
				why = err
				break
			}
			s.tell(message{event: &e})
		}
		for wait := firstWait; ; wait = min(2*wait, longWait) {
			if ctx.Err() != nil {
				return
			}
			s.tell(message{lost: why})
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if events, list, why = s.connect(ctx); why == nil {
				break
			}
		}
	}
}

// decide sends an answer, and wipes its PIN.
func (s *stream) decide(ctx context.Context, id string, d api.Decision) {
	s.do(func() {
		o, err := s.agent.DecidePrompt(ctx, id, d)
		clear(d.PIN)
		s.tell(message{decided: &result{id, o, err}})
	})
}

// refresh asks for the prompts anew; one that fails changes nothing.
func (s *stream) refresh(ctx context.Context) {
	s.do(func() {
		if list, err := s.agent.Prompts(ctx, frontEnd); err == nil {
			s.tell(message{refreshed: &list})
		}
	})
}

// goneWords say why the agent cannot be reached.
func goneWords(err error) string {
	if err == nil {
		return "the agent has gone"
	}
	return describe.Clean(err.Error(), 300)
}
