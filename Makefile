# make alone lists what there is. Settings (where builds go, how long proofs run) are in scripts/environment.

SHELL := /bin/bash
ENV := set -euo pipefail; source scripts/environment;
.DEFAULT_GOAL := help
.PHONY: help build dashboard up services image chart test test-chart test-watch prove bench fmt lint fuzz

help: ## Lists these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name does; do printf '  make %-12s %s\n' "$$name" "$$does"; done

build: ## Installs what the build needs and builds; target/refold is a link to the program
	@scripts/setup build
	@$(ENV) cargo build --release --workspace --bins && mkdir -p target && ln -sfn "$$CARGO_TARGET_DIR/release/refold" target/refold

dashboard: ## Builds the dashboard alone; with ARGS=check its unit tests, ARGS=browser those in a browser, ARGS=licences its packages
	@scripts/dashboard $(or $(ARGS),build)

up: build ## Runs everything in one process; APP=wikipedia is another application, SOURCE=bluesky a live source; options by ARGS='--listen 0.0.0.0:7070'
	@exec target/refold up $(if $(APP),--app '$(APP)') $(if $(SOURCE),--source '$(SOURCE)') $(ARGS)

services: build ## Starts a Kafka and a Cassandra to try Refold over, until Ctrl-C
	@scripts/setup services
	@$(ENV) cargo build --release --workspace --example services && exec "$$CARGO_TARGET_DIR/release/examples/services"

image: ## Builds the image localhost/refold, or another name by ARGS; target/image has it as an archive, and what it is made of
	@scripts/setup image
	@scripts/image build $(ARGS)

chart: ## Writes README.md and values.schema.json of the Helm chart from its values
	@scripts/chart generate

test: ## Installs what the tests need and runs lints, all tests and short fuzzing; a part of the tests by ARGS='view::'
	@scripts/setup test
	@scripts/test $(ARGS)

test-chart: ## Checks the Helm chart with all its example values, and the release workflow
	@scripts/setup chart
	@scripts/chart check

test-watch: ## Dashboards and alerts alone, over a real Prometheus; draws each panel by ARGS='--pictures DIR'
	@scripts/setup watch
	@$(ENV) cargo build --release --workspace --bins --example services && scripts/test-watch $(ARGS)

prove: ## Runs all tests with the proofs at full count, and long fuzzing
	@scripts/setup prove
	@REFOLD_PROVE_SCALE=full scripts/test $(ARGS)

bench: ## Runs the benchmarks; one of them by ARGS='--bench functions'
	@scripts/setup test
	@$(ENV) cargo bench --workspace $(or $(ARGS),--bench '*')

fmt: ## Formats the code
	@cargo fmt --all

lint: ## Checks form, lints and dependencies
	@scripts/setup test
	@scripts/lint

fuzz: ## Fuzzes; a longer while by FUZZ_SECONDS=600, some targets by ARGS='hashtags decode'
	@scripts/setup build
	@tests/fuzz/run $(ARGS)
