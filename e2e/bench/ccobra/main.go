// Command ccobra is a floor for the benchmarks: a command line in Go with the
// libraries that one which talks to an agent has (cobra, net/http, JSON), and
// with a seed of its own. It prints a one-time code without asking anybody.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/authenticators/totp"
)

func main() {
	root := &cobra.Command{Use: "ccobra"}
	var agent string
	code := &cobra.Command{Use: "code", Short: "One-time codes"}
	get := &cobra.Command{
		Use: "get NAME", Short: "Print the one-time code of this moment", Args: cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error {
			if agent != "" { // never in the benchmark: it keeps the libraries linked
				return ask(agent)
			}
			p := totp.Parameters{Seed: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", Algorithm: totp.SHA1, Digits: 6, Period: 30}
			digits, _, err := p.Code(time.Now())
			if err == nil {
				fmt.Println(digits)
			}
			return err
		},
	}
	get.Flags().StringVar(&agent, "agent", "", "ask there instead")
	code.AddCommand(get)
	root.AddCommand(code)
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}

func ask(url string) error {
	response, err := http.Get(url) //nolint:gosec // the user's own word
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct{ Code string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	fmt.Println(answer.Code)
	return nil
}
