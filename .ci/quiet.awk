# Reads `go test -v` and prints what a person needs: of a test that failed or
# was skipped all it said, of the others nothing, and go test's own lines about
# each package. go test without -v would hide why a test was skipped.

function dump(test) {
	printf "%s", said[test]
	delete said[test]
}

/^=== (RUN|PAUSE|CONT|NAME) / { test = $3; next }

/^ *--- (PASS|FAIL|SKIP): / {
	if ($2 == "PASS:") delete said[$3]
	else { dump($3); print }
	# What follows belongs to no test, or to the one that a marker names.
	test = ""
	next
}

/^(ok|FAIL|\?) *\t/ {
	if ($1 == "FAIL") for (t in said) dump(t) # a panic or a timeout ends no test
	delete said
	test = ""
	print
	fflush()
	next
}

/^PASS$/ { next }
test == "" { print; next }
{ said[test] = said[test] $0 "\n" }
