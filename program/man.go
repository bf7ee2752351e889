package program

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"countersign.dev/version"
)

// ManCommand prints the manual page of the program it belongs to, made from the
// same words as its help. Packages use it; people read the result.
func ManCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return writeMan(c.OutOrStdout(), c.Root()) },
	}
}

// writeMan writes man(7) source: the program, then each command with its flags.
func writeMan(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Countersign %s\" \"User Commands\"\n", strings.ToUpper(root.Name()), roff(version.Number()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(root.Name()), roff(root.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I command\n[flags]\n", roff(root.Name()))
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(words(root)))
	if root.PersistentFlags().HasAvailableFlags() {
		b.WriteString(".SH OPTIONS\nEvery command takes these.\n")
		flags(&b, root.PersistentFlags())
	}
	b.WriteString(".SH COMMANDS\n")
	commands(&b, root)
	_, err := io.WriteString(w, b.String())
	return err
}

func commands(b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.Name() == "help" {
			continue
		}
		if sub.HasAvailableSubCommands() {
			commands(b, sub)
			continue
		}
		_, use, _ := strings.Cut(sub.UseLine(), " ")
		fmt.Fprintf(b, ".SS %s\n%s", roff(use), paragraphs(words(sub)))
		flags(b, sub.LocalNonPersistentFlags())
		if sub.Example != "" {
			fmt.Fprintf(b, ".PP\n.EX\n%s\n.EE\n", roff(strings.Trim(sub.Example, "\n")))
		}
	}
}

// words is what the help says first.
func words(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func flags(b *strings.Builder, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, ".TP\n.B \\-\\-%s", roff(f.Name))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(b, "\n%s\n", roff(usage))
	})
}

func paragraphs(s string) string {
	return roff(strings.ReplaceAll(strings.TrimSpace(s), "\n\n", "\n.PP\n")) + "\n"
}

// roff keeps text from being taken for requests and escapes.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") && l != ".PP" || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
