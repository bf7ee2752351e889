package dialog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// pictures is where the documentation has its screenshots.
const pictures = "../../../docs/screenshots"

// TestScreenshots shows the windows with what people are really asked. With
// UPDATE_SCREENSHOTS=1 the pictures in docs/screenshots are made anew.
func TestScreenshots(t *testing.T) {
	now := time.Date(2026, 3, 4, 14, 3, 20, 0, time.Local)
	p := api.Prompt{
		App: "Payroll", Org: "https://id.example.com", User: "ada@example.com", Kind: "push",
		Location: "Lisbon, Portugal", Client: "Firefox on Windows", IP: "203.0.113.9",
		CreatedAt: now.Add(-2 * time.Minute), ExpiresAt: now.Add(3 * time.Minute), Unusual: []string{"New place: Lisbon, Portugal"},
		Key: &api.PromptKey{Kind: "tpm", Protection: "hardware"},
	}
	ask := func(p api.Prompt) Question {
		return Question{
			Title: "Countersign", Unusual: describe.Unusual(p), Heading: describe.Question(p), Facts: describe.Facts(p, now),
			Report: true, Until: time.Now().Add(time.Minute),
		}
	}
	verified := p
	verified.UserVerification, verified.VerificationMethods, verified.TriesLeft = "required", []string{"pin"}, 4
	verified.Unusual = nil
	number, pin, accounts := ask(p), ask(verified), ask(p)
	number.Entry, pin.Entry = Number, PIN
	wrong := pin
	wrong.Problem = "That was not the PIN. 4 tries left."
	accounts.Choices = []Choice{{"a", "ada@example.com (Payroll at work)"}, {"b", "ada.l@example.com (Payroll, second job)"}}
	update := os.Getenv("UPDATE_SCREENSHOTS") != ""
	for i, test := range []struct {
		name, theme string
		q           Question
	}{
		{"question", "", ask(p)}, {"question-dark", "Adwaita:dark", ask(p)},
		{"number", "", number}, {"number-dark", "Adwaita:dark", number},
		{"pin", "", pin}, {"pin-wrong", "", wrong},
		{"account", "", accounts},
	} {
		if i > 0 && !update {
			break // the other tests have shown them all
		}
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GTK_THEME", test.theme)
			a := begin(t, test.q)
			file := filepath.Join(t.TempDir(), "picture.png")
			if update {
				file = filepath.Join(pictures, "dialog-"+test.name+".png")
			}
			a.window.Screenshot(t, file)
		})
	}
}
