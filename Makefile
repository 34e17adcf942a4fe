# Watchfloor. `make help` lists what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.complete

.DEFAULT_GOAL := help
.PHONY: help setup clickhouse run test check lint types unit bench docs lock clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## Make .venv with everything that Watchfloor and its tests need

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Watchfloor needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

clickhouse: $(STAMP)  ## Add ClickHouse in the process (chdb, 534 MB): with it, `make test` tests the second SQL dialect, too
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-clickhouse.lock

run: $(STAMP)  ## Start Watchfloor with its demo company, and say where to sign in
	$(BIN)/watchfloor up --demo

test: $(STAMP)  ## Run everything: lint, types, import contracts, unit and end-to-end tests
	@$(MAKE) --no-print-directory lint types
	@test -d tests/kql/parity/node_modules || ! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund --prefix tests/kql/parity
	$(BIN)/python -m pytest -n 2 tests/kql
	$(BIN)/python -m pytest --ignore tests/kql

check: $(STAMP)  ## The quick round after each change: lint, types, import contracts, unit tests
	@$(MAKE) --no-print-directory lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2

bench: $(STAMP)  ## Measure against the budgets; prints ratios and the machine
	$(BIN)/python -m bench

docs: $(STAMP)  ## Write the reference pages that are derived from code
	$(BIN)/python docs/write.py

lock:  ## Write requirements.lock anew from pyproject.toml
	@test -x $(BIN)/pip-compile || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet pip-tools; }
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra test --all-build-deps \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements.lock pyproject.toml
	$(BIN)/python -c "import tomllib as t; print(*t.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['clickhouse'])" \
	  | $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --constraint requirements.lock --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements-clickhouse.lock -

clean:  ## Remove what was built (keeps data)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis
