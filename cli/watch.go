package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"countersign.dev/cli/internal/watch"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

func (a *app) promptWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch", Short: "Show sign-ins as they come, until interrupted", Args: takes(0, 0),
		Long: `Show sign-ins as they come, until interrupted. While it runs, this terminal counts as
a place where you can be asked. With --json each line is one event.

On a terminal they are answered here, too: the arrow keys choose a sign-in and an
answer, Enter gives it. Letters: a approve (then Enter), d deny, r this wasn't me
(then Enter), l later, q leave. Nothing is chosen beforehand, and a key that comes
within a moment after the screen has changed answers nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in, person := a.terminal(); person && a.out.tty != nil && !a.json && os.Getenv("TERM") != "dumb" {
				return a.watchHere(cmd.Context(), in)
			}
			return a.watch(cmd.Context())
		},
	}
}

const watching = "watch for sign-ins"

// watchHere watches on the terminal that in and standard output are.
func (a *app) watchHere(ctx context.Context, in *os.File) error {
	a.stream = true
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	return failed(watching, watch.Run(ctx, watch.Options{Agent: agent, In: in, Out: a.out.tty, Colour: a.out.colour, Now: a.now}))
}

func (a *app) watch(ctx context.Context) error {
	const tried = watching
	a.stream = true
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	events, err := agent.Subscribe(ctx, frontEnd)
	if err != nil {
		return failed(tried, err)
	}
	// Subscribed first, listed second: what came in between is seen twice and
	// shown once.
	list, err := agent.Prompts(ctx, frontEnd)
	if err != nil {
		return failed(tried, err)
	}
	shown := map[string]string{} // id -> app
	switch {
	case list.Hold != nil:
		if err := a.watched(shown, api.Event{Type: "hold", Time: list.Hold.Since, Hold: list.Hold}); err != nil {
			return err
		}
	case len(list.Prompts) == 0 && !a.json:
		a.out.line("no sign-in is waiting; watching, stop with Ctrl-C")
	}
	for i := len(list.Prompts) - 1; i >= 0; i-- { // oldest first
		p := list.Prompts[i]
		if err := a.watched(shown, api.Event{Type: "prompt", Time: p.CreatedAt, Prompt: &p}); err != nil {
			return err
		}
	}
	for e, err := range events {
		if err != nil {
			return failed(tried, err)
		}
		if err := a.watched(shown, e); err != nil {
			return err
		}
	}
	return nil
}

// watched shows one event of a watch. What waits at the end of a hold is shown
// again.
func (a *app) watched(shown map[string]string, e api.Event) error {
	switch {
	case e.Type == "hold":
		if e.Hold == nil {
			clear(shown)
		}
		if a.json {
			return writeJSON(a.out.w, e)
		}
		words := describe.HoldEnded
		if e.Hold != nil {
			words = describe.Hold(e.Hold, a.now())
		}
		a.out.paragraph(yellow, words)
	case e.Type == "prompt" && e.Prompt != nil:
		if _, again := shown[e.Prompt.ID]; again {
			return nil
		}
		shown[e.Prompt.ID] = e.Prompt.App
		if a.json {
			return writeJSON(a.out.w, e)
		}
		a.printPrompt(*e.Prompt)
		a.out.line("")
	case e.Type == "prompt_closed" && e.Outcome != nil:
		app, seen := shown[e.Outcome.ID]
		delete(shown, e.Outcome.ID)
		if a.json {
			return writeJSON(a.out.w, e)
		}
		if !seen {
			return nil
		}
		word, why := describe.Ended(*e.Outcome)
		if why != "" {
			why = " (" + why + ")"
		}
		a.out.line("%s: sign-in to %s%s", word, clean(app), why)
	}
	return nil
}
