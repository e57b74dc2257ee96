# `make up` runs the platform, `make test` tests it; both make the environment first. Needs only python3 >= 3.11 and make.
.DEFAULT_GOAL := help
.PHONY: help up test test-gpu check fix docs where bench fuzz soak conformance lock clean run-env dev-env
SHELL := /bin/sh
BIN := .venv/bin
RUN := .venv/.run
DEV := .venv/.dev
T ?= tests

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

up: $(RUN) ## Run the platform in the foreground, with the quickstart service
	@exec $(BIN)/penstock up

test: $(DEV) ## Run all tests (T=tests/decide for some)
	@$(BIN)/python -m pytest $(T)

test-gpu: $(DEV) ## Show what the platform makes of this machine's GPUs; skipped with the reason where there is none
	@$(BIN)/python -m pytest tests/gpu -v -s -rs

check: $(DEV) ## Lint, types, layers, and that generated documents are current
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/reference.py --check

fix: $(DEV) ## Format, and repair what can be repaired
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(DEV) ## Generate docs/reference and the tables in ARCHITECTURE.md
	@$(BIN)/python tools/reference.py

where: $(RUN) ## Where is what decided? (Q=scale for some)
	@$(BIN)/python tools/where.py $(Q)

bench: $(subst _,-,$(patsubst benchmarks/%/run.py,bench-%,$(wildcard benchmarks/*/run.py))) ## Run every benchmark (or bench-NAME)

bench-%: $(DEV)
	@$(BIN)/python -m benchmarks.$(subst -,_,$*).run

fuzz: $(DEV) ## Fuzz the wire against h11 and itself (T=60 seconds for each target)
	@$(BIN)/python tests/fuzz/wire_fuzz.py --seconds $(if $(filter command line,$(origin T)),$(T),60)

soak: $(DEV) ## Load the gateway for 30 minutes with faults, and look for what is lost, doubled or left over (T=300 for less)
	@$(BIN)/python tests/soak/soak.py --seconds $(if $(filter command line,$(origin T)),$(T),1800)

conformance: $(DEV) ## Print what the endpoint picker protocol asks for, and how its tests end behind a real Envoy
	@PYTHONPATH=tools $(BIN)/python -m pytest -p conformance -m conformance -q tests/e2e/test_envoy.py tests/gateway/test_epp.py

lock: $(DEV) ## Choose newest versions of all dependencies, with hashes
	@tools/lock

clean: ## Remove the environment and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

run-env: $(RUN) ## Make the environment that running needs

dev-env: $(DEV) ## Make the environment that tests need

$(RUN): requirements/run.lock tools/environment
	@tools/environment run

$(DEV): requirements/dev.lock requirements/run.lock tools/environment
	@tools/environment dev
