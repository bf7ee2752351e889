// Package toast writes the XML of a notification of Windows. Text stays text,
// whatever is in it.
package toast

import (
	"bytes"
	"encoding/xml"
)

type document struct {
	XMLName  xml.Name `xml:"toast"`
	Duration string   `xml:"duration,attr,omitempty"`
	Binding  binding  `xml:"visual>binding"`
}

type binding struct {
	Template string   `xml:"template,attr"`
	Text     []string `xml:"text"`
}

// XML is a note with a title and a body. One that stays is shown for as long as
// Windows allows: 25 seconds, and then in its list.
func XML(title, body string, stays bool) (string, error) {
	d := document{Binding: binding{Template: "ToastGeneric", Text: []string{title}}}
	if body != "" {
		d.Binding.Text = append(d.Binding.Text, body)
	}
	if stays {
		d.Duration = "long"
	}
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).Encode(d); err != nil {
		return "", err
	}
	return b.String(), nil
}
