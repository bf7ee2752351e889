package cli

import "github.com/spf13/cobra"

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print the completion script for bash, zsh, fish or powershell",
		Args: cobra.MatchAll(takes(1, 1), oneOf), ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Example: "  source <(countersign completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out.w, true)
			case "zsh":
				return root.GenZshCompletion(a.out.w)
			case "fish":
				return root.GenFishCompletion(a.out.w, true)
			default:
				return root.GenPowerShellCompletionWithDesc(a.out.w)
			}
		},
	}
}
