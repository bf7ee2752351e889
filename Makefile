# Countersign. `make` lists what there is to do.

BIN      := bin
PROGRAMS := countersignd countersign countersign-org countersign-tray
LDFLAGS  := -s -w

export CGO_ENABLED ?= 0

# e2e/fetch-browser puts a browser there where the system has none for us.
export PATH := $(CURDIR)/e2e/node_modules/.browser:$(PATH)

# A checkout of another user's cannot be asked for its version: git refuses.
ifneq ($(shell git rev-parse --git-dir >/dev/null 2>&1 || echo no),)
export GOFLAGS := $(shell go env GOFLAGS 2>/dev/null) -buildvcs=false
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build man run demo test test-slow lint fuzz wine bench screenshots icons tray-gtk clean setup-demo setup-test

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build every program into bin/
	@for p in $(PROGRAMS); do go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/$$p ./cmd/$$p || exit 1; done
	@tools/build-sk $(BIN)

man: build ## write the manual pages into bin/man/
	@mkdir -p $(BIN)/man
	@for p in $(PROGRAMS); do $(BIN)/$$p man >$(BIN)/man/$$p.1 || exit 1; done

setup-demo:
	@tools/setup demo

setup-test:
	@tools/setup test

demo: setup-demo build ## sign in with the real widget in a headless browser, and say how long each step took
	@cd e2e && go build -o ../$(BIN)/demo ./cmd/demo
	@$(BIN)/demo

run: build ## org, agent and, on a desktop, the tray in the foreground, to try by hand; Ctrl-C stops all
	@cd e2e && go build -o ../$(BIN)/run ./cmd/run
	@$(BIN)/run

test: setup-test build ## every test, with the race detector, and the real browser
	@cd tools && go build -o ../$(BIN)/gotest ./gotest
	@CGO_ENABLED=1 $(BIN)/gotest -dir . -dir tools -dir e2e -- -race -timeout 20m ./...

test-slow: setup-test build ## the fault, crash, canary and security-key tests whole: every fault at every step, 200 kills
	@cd tools && go build -o ../$(BIN)/gotest ./gotest
	@COUNTERSIGN_SLOW=1 CGO_ENABLED=1 $(BIN)/gotest -dir e2e -- -race -timeout 60m ./faults ./crash ./canary ./securitykey

lint: ## format, vet, staticcheck, cross builds
	@tools/lint

fuzz: ## every fuzz target for FUZZTIME (default 1m) each
	@tools/fuzz $(or $(FUZZTIME),1m)

wine: ## the Windows side under Wine: windows, pressed, and security keys; optional, two minutes
	@tools/setup wine
	@tools/wine

bench: build ## the table of ratios to floors and peers measured in the same run
	@cd e2e && go build -o ../$(BIN)/bench ./cmd/bench
	@$(BIN)/bench

screenshots: setup-test build ## render docs/screenshots anew
	@UPDATE_SCREENSHOTS=1 go test -count=1 -run Screenshot ./daemon/desktop/... ./cli/internal/watch
	@cd e2e && UPDATE_SCREENSHOTS=1 go test -count=1 -run Screenshot ./...

icons: ## render the tray's icons from their SVG sources
	@cd tools && go run ./icons ../tray/icon/svg ../tray/icon/rendered ../docs/screenshots/tray-icons.png

tray-gtk: ## build bin/countersign-tray-gtk with GTK instead of the message bus, and test it (needs GTK, Ayatana and Xvfb)
	@CGO_ENABLED=1 go build -trimpath -tags gtktray -ldflags '$(LDFLAGS)' -o $(BIN)/countersign-tray-gtk ./cmd/countersign-tray
	@CGO_ENABLED=1 xvfb-run -a go test -count=1 -tags gtktray ./tray/... ./cmd/countersign-tray

clean: ## remove what was built
	rm -rf $(BIN) e2e/bin
