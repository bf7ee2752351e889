package watch

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"countersign.dev/daemon/desktop/desktoptest"
)

// In a real terminal, with keys that are really pressed. With UPDATE_SCREENSHOTS=1
// the pictures in docs/screenshots are made anew.
func TestScreenshotWatch(t *testing.T) {
	xterm, err := exec.LookPath("xterm")
	if err != nil {
		t.Fatal("xterm is missing; install the package xterm")
	}
	desk := desktoptest.Start(t)
	for _, look := range []struct{ name, paper, ink, yellow, green string }{
		{"light", "#ffffff", "#1b2330", "#9a5b00", "#1d7a4d"},
		{"dark", "#12161d", "#e8ecf2", "#f0b35a", "#5cc795"},
	} {
		a := newAgent(t)
		a.PIN, a.Tries = "314159", 3
		title := "Sign-ins, " + look.name
		c := exec.Command(xterm, "-title", title, "-geometry", "84x21", "-fa", "DejaVu Sans Mono", "-fs", "11", "-bg", look.paper, "-fg", look.ink, "-cr", look.ink, "-b", "12",
			"-xrm", "XTerm*color3: "+look.yellow, "-xrm", "XTerm*color2: "+look.green, "-xrm", "XTerm*boldColors: false", "-e", os.Args[0])
		c.Env = append(desk.Env(), envSocket+"="+a.socket, envClock+"=real", envColour+"=1", "LC_ALL=C.UTF-8", "LANG=C.UTF-8")
		if err := desk.Run(c); err != nil {
			t.Fatal(err)
		}
		window := desk.Wait(t, title)
		a.until("somebody to ask", func() bool { return len(a.FrontEnds()) > 0 })

		now := time.Now()
		wiki := with(payroll("p-1"), "wiki")
		wiki.CreatedAt, wiki.ExpiresAt = now, now.Add(time.Hour)
		a.Ask(wiki)
		a.pressed("p-1", func() { window.Keys(t, "a"); pause(); window.Keys(t, "Return"); pause() })
		if d := a.awaits("p-1"); d.Action != "approve" {
			t.Errorf("%+v", d)
		}
		asked := full("p-2")
		asked.CreatedAt, asked.ExpiresAt = now.Add(-2*time.Minute), now.Add(4*time.Minute+30*time.Second)
		a.Ask(asked)
		mail := payroll("p-3")
		mail.App, mail.CreatedAt, mail.ExpiresAt = "Mail", now, now.Add(3*time.Minute+30*time.Second)
		a.Ask(mail)
		if os.Getenv("UPDATE_SCREENSHOTS") != "" {
			time.Sleep(time.Second) // until it is drawn; nobody says when
			file := filepath.Join("..", "..", "..", "docs", "screenshots", "watch-"+look.name+".png")
			c := exec.Command("import", "-silent", "-window", window.ID, "-strip", file)
			c.Env = desk.Env()
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		a.pressed("p-2", func() { window.Keys(t, "d"); pause() })
		if d := a.awaits("p-2"); d.Action != "deny" {
			t.Errorf("%+v", d)
		}
		window.Keys(t, "ctrl+c")
		window.Gone(t)
	}
}

// pause is a person's between two keys.
func pause() { time.Sleep(2 * apart) }

// pressed presses keys until a prompt is decided: what is pressed too soon has no
// effect.
func (a *agent) pressed(id string, keys func()) {
	a.t.Helper()
	a.until(id+" to be decided", func() bool {
		if _, done := a.decided(id); !done {
			keys()
		}
		_, done := a.decided(id)
		return done
	})
}

func (a *agent) until(what string, is func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatal("waited in vain for " + what)
		}
	}
}
