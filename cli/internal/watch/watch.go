// Package watch is `countersign prompt watch` on a terminal: it shows the
// sign-ins that wait, and takes the person's answers by key.
//
// What it promises: an answer is for the very sign-in that is on the screen, and
// was pressed on purpose. Nothing is chosen beforehand; Enter by itself answers
// nothing; a key that comes within a moment after the screen has changed, or as
// part of a paste, answers nothing; nothing is approved before all of it could be
// read. A PIN is never shown. Text from outside cannot act on the terminal. And
// however it ends, short of being killed outright, the terminal is as it was.
//
// The model is all of what is shown and of what keys do, without a terminal, an
// agent or a clock; the runner connects the three. What is on the screen is drawn
// over itself at the end of what was printed before, so that a line about each
// sign-in stays above it.
package watch

import (
	"context"
	"iter"
	"os"
	"time"

	"countersign.dev/ipc/api"
)

// frontEnd is the name under which the person is asked here.
const frontEnd = "cli"

// Agent is what is needed of the client.
type Agent interface {
	Subscribe(ctx context.Context, frontEnd string) (iter.Seq2[api.Event, error], error)
	Prompts(ctx context.Context, frontEnd string) (api.PromptList, error)
	DecidePrompt(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error)
}

// Options say whom to ask about, and where.
type Options struct {
	Agent   Agent
	In, Out *os.File // terminals
	Colour  bool
	Now     func() time.Time

	// For tests.
	stop  func() error // stops this process, until it is told to go on
	heard func(int)    // called after so many bytes that were typed have had their effect
}

// Run watches until the person leaves, ctx ends or the terminal is gone; none of
// these is an error. An agent that cannot be reached at the beginning is one;
// later it is looked for again and again.
func Run(ctx context.Context, o Options) error {
	if o.stop == nil {
		o.stop = stopProcess
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &stream{agent: o.Agent, messages: make(chan message), done: ctx.Done()}
	events, list, err := s.connect(ctx)
	if err != nil {
		return err
	}
	term, err := openTerminal(o.In, o.Out)
	if err != nil {
		return err
	}
	r := &runner{
		options: o, terminal: term, stream: s, model: newModel(o.Colour),
		input: make(chan []byte), signals: make(chan os.Signal, 8),
	}
	defer s.wait() // once the terminal is as it was
	defer cancel()
	defer r.leave()
	if err := r.enter(); err != nil {
		return err
	}
	s.do(func() { s.follow(ctx, events, list) })
	defer term.read(s, r.input)()
	defer notify(r.signals)()
	return r.loop(ctx)
}
