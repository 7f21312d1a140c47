# The house's chores. Everything but `make setup` and `make lab-real` works without root.
SHELL := /bin/bash

GO ?= go
# What was tested is what ships: the same tree gives the same bytes anywhere.
RELEASE := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
# Of one package, on two busy cores with the race detector on.
TEST_TIMEOUT ?= 30m

.PHONY: build setup test lint accept matrix matrix-full confusion soak bench lab-mutate lab-real profiles dist fixtures vuln clean

build: ## this machine's wce2e, in bin/
	$(RELEASE) -o bin/wce2e ./cmd/wce2e

# What the tests use besides Go. Without one of these, the tests that need it
# are skipped, and say so.
#   gcc, libc6-dev                  the race detector
#   openssh-server, openssh-client  the SSH client is tested against OpenSSH's own sshd (as root), and the lab with ssh
#   clang, lld                      the WebAssembly fixtures are rebuilt and compared, byte for byte
#   squid, tinyproxy-bin            the proxies are dialled through that institutions run
#   git                             the source tree's digest and commit in the evidence
PACKAGES := gcc libc6-dev openssh-server openssh-client clang lld squid tinyproxy-bin git make

setup: ## download the modules, and on Debian or Ubuntu install what the tests use
	$(GO) mod download
	@bash .ci/install $(PACKAGES)

# Skipped tests are told with their reasons; the last lines are go test's own.
test: lint ## everything short of the long runs
	@set -o pipefail; \
	race=-race; \
	if ! command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null; then \
		echo "test: SKIPPED: the race detector, which needs a C compiler ($$($(GO) env CC)): make setup installs one"; \
		race=; \
	fi; \
	$(GO) test -v $$race -timeout $(TEST_TIMEOUT) ./... 2>&1 | awk -f .ci/quiet.awk

lint: ## formatting, vet here and for macOS, staticcheck
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); \
	if [ -n "$$unformatted" ]; then echo "lint: not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	$(GO) tool staticcheck ./...

accept: ## the acceptance run on the lab: a 10-minute hold, and a bundle
	$(GO) run ./cmd/wce2e run --hold 10m inventory/lab.yaml

# What the lab's own services are compared with. CI has no need of them.
REAL := squid tinyproxy-bin unbound tayga miniupnpd-nftables

lab-real: ## the lab's services proven with real daemons in place of ours; as root
	@bash .ci/install $(REAL)
	$(GO) test ./e2e/lab -run TestRealDaemons -v -real -timeout $(TEST_TIMEOUT)
matrix: ## the acceptance run behind every firewall profile, against its ground truth; minutes
	$(GO) run ./cmd/wce2e matrix

matrix-full: ## the same with holds of ten minutes side by side; a quarter of an hour on two quiet cores
	$(GO) run ./cmd/wce2e matrix --hold 10m

soak: ## what an idle donor costs, and a circuit that stays, for ten minutes
	$(GO) test ./cmd/wce2e -run TestIdleDonors -v -soak 10m -timeout 20m

confusion: ## every network of the lab diagnosed, against what is there: docs/confusion.svg; a quarter of an hour on two quiet cores
	$(GO) test ./cmd/wce2e -run TestNoCauseIsTakenForAnother -v -confusion -seeds 3 -timeout 120m

bench: ## every benchmark; three quarters of an hour on two quiet cores
	$(GO) test -run '^$$' -bench . -benchmem -timeout 90m -p 1 ./...

lab-mutate: ## every rule of every profile is left out, and its proof must fail; a minute
	$(GO) run ./cmd/wce2e lab selftest --mutate

profiles: ## docs/profiles.md, anew from the catalogue
	$(GO) run ./cmd/wce2e lab list --markdown > docs/profiles.md

dist: ## release builds for the platforms of donors, with their hashes, in dist/
	$(GO) run ./cmd/wce2e dist --out dist

fixtures: ## the WebAssembly modules, anew from their sources (LLVM 14)
	$(MAKE) -C wasm-fixtures

vuln: ## known vulnerabilities; asks vuln.go.dev, and so is no part of test
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

clean: ## what build and dist have made
	rm -rf bin dist
