package toast

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestXML(t *testing.T) {
	got, err := XML("Sign in to Payroll?", "From Lisbon", true)
	want := `<toast duration="long"><visual><binding template="ToastGeneric"><text>Sign in to Payroll?</text><text>From Lisbon</text></binding></visual></toast>`
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	got, err = XML("One", "", false)
	want = `<toast><visual><binding template="ToastGeneric"><text>One</text></binding></visual></toast>`
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// parse reads the elements, attributes and texts of a document.
func parse(t *testing.T, doc string) (elements, attributes, texts []string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(doc)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements = append(elements, token.Name.Local)
			for _, a := range token.Attr {
				attributes = append(attributes, a.Name.Local+"="+a.Value)
			}
		case xml.CharData:
			texts = append(texts, string(token))
		default:
			if _, end := token.(xml.EndElement); !end {
				t.Fatalf("%s: a %T", doc, token)
			}
		}
	}
}

// hostile is text that would be a button, a picture or an end if it were not
// escaped.
var hostile = []string{
	`</text></binding></visual><actions><action content="Approve" arguments="approve"/></actions>`,
	`<image src="https://evil.example/x.png"/>`,
	`]]><![CDATA[x`, `&lt;b&gt; &amp; &#60;`, `" launch="x`, "a\nb\tc\rd", "<!-- -->", "<?x?>", "&xxe;",
}

// TestB9ToastMarkup: an org cannot draw on a notification.
func TestB9ToastMarkup(t *testing.T) {
	for _, text := range hostile {
		got, err := XML(text, text, true)
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, text)
	}
}

func check(t *testing.T, doc, text string) {
	t.Helper()
	elements, attributes, texts := parse(t, doc)
	if want := []string{"toast", "visual", "binding", "text", "text"}; !slices.Equal(elements, want) {
		t.Errorf("%q has the elements %v", text, elements)
	}
	if want := []string{"duration=long", "template=ToastGeneric"}; !slices.Equal(attributes, want) {
		t.Errorf("%q has the attributes %v", text, attributes)
	}
	if want := []string{text, text}; !slices.Equal(texts, want) {
		t.Errorf("%q came out as %q", text, texts)
	}
}

func FuzzXML(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := XML(text, "body", true)
		if err != nil {
			t.Fatal(err)
		}
		elements, attributes, texts := parse(t, got)
		if len(elements) != 5 || len(attributes) != 2 {
			t.Errorf("%q has the elements %v and attributes %v", text, elements, attributes)
		}
		if !utf8.ValidString(got) || len(texts) == 0 || texts[len(texts)-1] != "body" {
			t.Errorf("%q came out as %q", text, got)
		}
	})
}
