package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
)

func newNodeIDCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "id",
		Short: "print a node's peer ID, and give it an identity if it has none",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := node.Identity(dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}
