package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
)

// noLab is what a command says that needs a lab while there is none.
func noLab() error {
	return &exitError{code: exitUsage, err: errors.New("no lab stands"),
		hint: "bring one up in another terminal: wce2e lab up inventory/lab.yaml"}
}

// standingLab is the lab that a command means. which is its name or folder; empty
// means the only one that stands or, of several, the only one that has all of
// those hosts or networks.
func standingLab(which string, links ...string) (lab.Standing, error) {
	labs, err := lab.StandingLabs()
	if err != nil {
		return lab.Standing{}, err
	}
	return chooseLab(labs, which, links)
}

func chooseLab(labs []lab.Standing, which string, links []string) (lab.Standing, error) {
	if len(labs) == 0 {
		return lab.Standing{}, noLab()
	}
	fits := labs
	if which != "" {
		fits = slices.DeleteFunc(slices.Clone(labs), func(s lab.Standing) bool { return s.Name != which && s.Dir != which })
	} else if len(labs) > 1 {
		fits = slices.DeleteFunc(slices.Clone(labs), func(s lab.Standing) bool { return !hasAll(s, links) })
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return lab.Standing{}, &exitError{code: exitUsage, err: errors.New("several labs stand that it could be:\n" + listLabs(fits)),
			hint: "choose one with --lab NAME, or --lab FOLDER"}
	case which != "":
		return lab.Standing{}, &exitError{code: exitUsage, err: fmt.Errorf("no lab %s stands, only:\n%s", which, listLabs(labs))}
	}
	return lab.Standing{}, &exitError{code: exitUsage, err: fmt.Errorf("none of the labs that stand has %s:\n%s", strings.Join(links, " and "), listLabs(labs))}
}

// hasAll tells whether a lab has all of those hosts and networks.
func hasAll(s lab.Standing, links []string) bool {
	for _, l := range links {
		network, _, _ := strings.Cut(l, "/")
		if !isHost(s, l) && !slices.Contains(s.Routers, network) {
			return false
		}
	}
	return true
}

func isHost(s lab.Standing, name string) bool {
	return slices.ContainsFunc(s.Hosts, func(h lab.Host) bool { return h.Name == name })
}

func listLabs(labs []lab.Standing) string {
	var lines []string
	for _, s := range labs {
		lines = append(lines, fmt.Sprintf("%s in %s, since %s", s.Name, s.Dir, s.Since.Local().Format("15:04:05")))
	}
	return strings.Join(lines, "\n")
}

// loginHost checks that one can log in to a host, so that a typing error is not
// looked up in the world's DNS.
func loginHost(hosts []lab.Host, name string) error {
	var there []string
	for _, h := range hosts {
		bystander := h.Network == ""
		switch {
		case h.Name == name && bystander:
			return usageError(fmt.Errorf("%s is a bystander: nobody logs in to it", name))
		case h.Name == name:
			return nil
		case !bystander:
			there = append(there, h.Name)
		}
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("the lab has no host %s", name), hint: "it has " + strings.Join(there, ", ")}
}

// completeHosts offers the hosts of the labs that stand to a shell.
func completeHosts(_ *cobra.Command, a []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(a) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var all []cobra.Completion
	for _, s := range standingOrNone() {
		for _, h := range s.Hosts {
			if h.Network != "" {
				all = append(all, cobra.CompletionWithDesc(h.Name, h.Profile))
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// completeLinks offers what can be captured.
func completeLinks(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, s := range standingOrNone() {
		for _, h := range s.Hosts {
			all = append(all, cobra.CompletionWithDesc(h.Name, h.Profile))
		}
		for _, r := range s.Routers {
			all = append(all, cobra.CompletionWithDesc(r, "both sides of the network's router"), r+"/lan", r+"/wan")
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func completeLabs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, s := range standingOrNone() {
		all = append(all, cobra.CompletionWithDesc(s.Name, s.Dir))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// completeProfiles offers the catalogue.
func completeProfiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, p := range lab.Profiles() {
		all = append(all, cobra.CompletionWithDesc(p.Name, p.Sentence))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// standingOrNone is for completion, which has no place for errors.
func standingOrNone() []lab.Standing {
	labs, _ := lab.StandingLabs()
	return labs
}

// labFlag adds --lab to a command.
func labFlag(cmd *cobra.Command, which *string) {
	cmd.Flags().StringVar(which, "lab", "", "the lab, by its inventory's name or its folder, where several stand")
	_ = cmd.RegisterFlagCompletionFunc("lab", completeLabs) // which fails for flags that are not there
}
