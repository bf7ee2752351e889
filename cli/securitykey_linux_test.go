package cli

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"countersign.dev/cli/internal/ptytest"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi/localapitest"
)

// Of several keys the one that was touched is the one whose PIN is typed.
func TestEnableOneOfSeveralKeys(t *testing.T) {
	agent := &localapitest.Agent{Methods: map[string]bool{"security_key": false}}
	for id, pin := range map[string]string{"k1": "1111", "k2": "2222"} {
		agent.Plugged = append(agent.Plugged, &localapitest.PluggedKey{SecurityKey: api.SecurityKey{ID: id, Product: id}, PIN: pin, Tries: 8})
	}
	socket := serve(t, agent)
	person, program := ptytest.Open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--socket", socket, "verification", "enable", "security_key"}, program, &out, &errs)
	}()
	ptytest.Silent(t, program)
	if _, err := io.WriteString(person, agent.Plugged[0].PIN+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := soon(t, code, "enabling the key"); got != exitDone || !agent.Methods["security_key"] || agent.Plugged[1].Tries != 8 {
		t.Errorf("exit %d: %s%s", got, out.String(), errs.String())
	}
}
