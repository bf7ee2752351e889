package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The people and the password that the demo org is seeded with.
const (
	Alice    = "alice@example.com"
	Bob      = "bob@example.com"
	Password = "Countersign-Demo-1"
)

// Org is a running demo org.
type Org struct {
	*Process
	URL        string // http://localhost:PORT
	AdminToken string
	program    string
	again      func(ctx context.Context, listen string) (*Process, error) // starts it on the state it left
}

func startOrg(ctx context.Context, programs Programs, dir string, ports []int, o StageOptions) (*Org, error) {
	state := filepath.Join(dir, "org")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	args := []string{"serve", "--demo", "--state", state, "--loopback-ports", portList(ports)}
	for _, origin := range o.TrustedOrigins {
		args = append(args, "--trusted-origin", origin)
	}
	args = append(args, o.OrgArgs...)
	var ready struct {
		Ready      bool   `json:"ready"`
		URL        string `json:"url"`
		AdminToken string `json:"adminToken"`
	}
	again := func(ctx context.Context, listen string) (*Process, error) {
		return startProcess(ctx, dir, "org", programEnv(dir), &ready, programs.Org, append(slices.Clone(args), "--listen", listen)...)
	}
	p, err := again(ctx, listen)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(ready.URL); !ready.Ready || err != nil || u.Host == "" || ready.AdminToken == "" {
		p.Stop()
		return nil, fmt.Errorf("starting org: its ready line lacks url or adminToken")
	}
	return &Org{Process: p, URL: ready.URL, AdminToken: ready.AdminToken, program: programs.Org, again: again}, nil
}

// Restart starts an org again that has ended, on the state it left and at the
// address it had.
func (o *Org) Restart(ctx context.Context) error {
	u, err := url.Parse(o.URL)
	if err != nil {
		return err
	}
	p, err := o.again(ctx, "127.0.0.1:"+u.Port())
	if err == nil {
		o.Process = p
	}
	return err
}

// RunningOrg is an org that somebody else has started.
func RunningOrg(url, adminToken, program string) *Org {
	return &Org{URL: url, AdminToken: adminToken, program: program}
}

// EnrolmentLink asks the org for a link that enrols user once.
func (o *Org) EnrolmentLink(ctx context.Context, user string) (string, error) {
	cmd := exec.CommandContext(ctx, o.program, "enrolment-link", "--url", o.URL, "--token", o.AdminToken, "--user", user)
	cmd.Env = programEnv(os.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("making an enrolment link for %s: %w\n%s", user, err, stderr.Bytes())
	}
	link := strings.TrimSpace(string(out))
	if !strings.HasPrefix(link, "oktaverify://") {
		return "", fmt.Errorf("making an enrolment link for %s: got %q", user, link)
	}
	return link, nil
}

// Administer makes one request with the admin token and decodes the answer
// into dst, which may be nil.
func (o *Org) Administer(ctx context.Context, method, path string, body, dst any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, o.URL+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "SSWS "+o.AdminToken)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case response.StatusCode/100 != 2:
		return &StatusError{response.StatusCode, answer, method + " " + path}
	case dst == nil || len(answer) == 0:
		return nil
	}
	return json.Unmarshal(answer, dst)
}

// NumberChallenge says when a push asks for the number: NEVER, HIGH_RISK_ONLY
// or ALWAYS.
func (o *Org) NumberChallenge(ctx context.Context, required string) error {
	var list []struct{ ID, Key string }
	if err := o.Administer(ctx, http.MethodGet, "/api/v1/authenticators?key=okta_verify", nil, &list); err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("the org has %d okta_verify authenticators, want one", len(list))
	}
	return o.Administer(ctx, http.MethodPut, "/api/v1/authenticators/"+list[0].ID, map[string]any{
		"key": "okta_verify", "name": "Okta Verify",
		"settings": map[string]any{"channelBinding": map[string]string{"style": "NUMBER_CHALLENGE", "required": required}},
	}, nil)
}
