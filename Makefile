# Everything here sets itself up: a machine with Python 3.11 or newer, its venv module and make is enough.
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

serve: $(VENV)/.serve ## Serve the shipped models on 127.0.0.1:8000 (PORT=… for another port)
	@echo 'Once it is up, try:'
	@echo "  curl -s http://127.0.0.1:$(PORT)/v1/models/diabetes/sample -H 'Content-Type: application/json' \\"
	@echo "    -d '{\"inputs\": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]], \"samples\": 100, \"seed\": 7}'"
	@exec $(RUN) -m service --port $(PORT)

test: $(VENV)/.dev ## Run every test
	$(RUN) -m pytest

check: $(VENV)/.dev ## Lint, types, import contracts and the fast tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) -m pytest -m "not slow" -q

train: $(VENV)/.dev ## Train the shipped models again; the same machine gives the same digests
	$(RUN) -m models train all

bench: $(VENV)/.dev ## Measure the engine against naive loops and the dense floor
	$(RUN) -m benchmarks.engine

bench-http: $(VENV)/.serve ## Measure the service over HTTP beside its floors (needs wrk)
	$(RUN) -m benchmarks.http

bench-overhead: $(VENV)/.serve ## Measure what metrics and logs cost, with and without them in turns (needs wrk)
	$(RUN) -m benchmarks.overhead

bench-peers: $(VENV)/.serve ## Measure it beside other servers, installed for the purpose (needs wrk; one needs Java)
	$(RUN) -m benchmarks.peers

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/.peers benchmarks/.raw

# torch comes first, so that nothing that depends on it picks another build of it.
$(VENV)/.torch: constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo 'Installing exact versions into $(VENV) (once; takes a minute or a few) …'
	$(PIP) install -c constraints.txt torch
	@touch $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt --editable '.[serve]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(PIP) install -c constraints.txt --editable '.[serve,tracing,train,dev]'
	@touch $@

.PHONY: help serve test check train bench bench-http bench-overhead bench-peers clean
