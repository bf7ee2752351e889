package command

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/org/api/admin"
	"countersign.dev/program"
)

const hintToken = "the admin token is in STATE/admin-token, or in the ready line of a --demo org"

func linkCommand() *cobra.Command {
	var orgURL, token, tokenFile, user string
	var asJSON bool
	c := &cobra.Command{
		Use:   "enrolment-link",
		Short: "Print a link that enrols one device for a user",
		Long: `Print an enrolment link. It is good once, for 10 minutes; whoever has it can
enrol a device for that user, so hand it to nobody else.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if tokenFile != "" && token == "" {
				b, err := os.ReadFile(tokenFile)
				if err != nil {
					return &program.Failure{Err: fmt.Errorf("read the admin token: %w", err), Hint: "the org writes it to STATE/admin-token, for its owner alone"}
				}
				token = strings.TrimSpace(string(b))
			}
			if user == "" || token == "" {
				return errors.New("give --user and --token (or --token-file)")
			}
			link, err := requestLink(c.Context(), orgURL, okta.Secret(token), user)
			if err != nil {
				return err
			}
			if asJSON {
				return program.PrintJSON(c.OutOrStdout(), link)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), link.URL)
			return err
		},
	}
	c.Flags().StringVar(&orgURL, "url", "http://localhost:8080", "URL of the org")
	c.Flags().StringVar(&token, "token", "", "the admin token")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the admin token, e.g. STATE/admin-token")
	c.Flags().StringVar(&user, "user", "", "login of the user")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

func requestLink(ctx context.Context, orgURL string, token okta.Secret, user string) (admin.Link, error) {
	what := "ask " + orgURL + " for an enrolment link"
	fail := func(why error, hint string) (admin.Link, error) {
		return admin.Link{}, &program.Failure{Err: fmt.Errorf("%s: %w", what, why), Hint: hint}
	}
	// The same rules for the URL as an agent has: https, or http on this machine.
	o, err := client.New(orgURL, client.Options{})
	if err != nil {
		return fail(err, "--url wants https://HOST, or http://localhost:PORT of an org on this machine")
	}
	if strings.ContainsFunc(token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fail(errors.New("the admin token holds characters that no token has"), hintToken)
	}
	target := o.URL() + "/api/v1/users/" + url.PathEscape(user) + "/enrolment-links"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return fail(err, "")
	}
	req.Header.Set("Authorization", "SSWS "+token.Reveal())
	req.Header.Set("Accept", "application/json")
	h := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}
	resp, err := h.Do(req)
	if err != nil {
		if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
			return fail(untrusted.Err, "this machine does not trust the org's certificate")
		}
		// What was asked is said already.
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
			if wrapped.Timeout() {
				err = errors.New("it did not answer in time")
			}
		}
		return fail(err, "is the org running there?")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return fail(err, "")
	}
	if resp.StatusCode != http.StatusOK {
		refusal := okta.Error{HTTPStatus: resp.StatusCode}
		if err := json.Unmarshal(body, &refusal); err != nil || refusal.Code == "" {
			return fail(fmt.Errorf("status %d", resp.StatusCode), "is that the URL of an org?")
		}
		hint := ""
		switch {
		case refusal.Code == okta.CodeInvalidToken:
			hint = hintToken
		case resp.StatusCode == http.StatusMisdirectedRequest:
			hint = "an org answers to the URL of its ready line only, which begins with http://localhost unless --base-url says otherwise"
		case resp.StatusCode == http.StatusNotFound:
			hint = "--user wants the login of a user, e.g. alice@example.com"
		}
		return fail(&refusal, hint)
	}
	var link admin.Link
	if err := json.Unmarshal(body, &link); err != nil {
		return fail(errors.New("the answer is not JSON"), "is that the URL of an org?")
	}
	if _, err := okta.ParseEnrolmentLink(link.URL); err != nil {
		return fail(err, "")
	}
	return link, nil
}
