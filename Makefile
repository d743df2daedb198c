# Two commands: `make run` and `make test`. Both work from a fresh clone with python3.11 (or later), venv and make.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
WORKER := .cache/functions-worker
WORKER_PYTHON ?= $(or $(firstword $(foreach name,python3.13 $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13),\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name)))),$(PYTHON))
ARGS ?=

.PHONY: run demo test lint bench worker kill-campaign install dev clean

run: install
	@$(BIN)/shardline up $(ARGS)

demo: install
	@$(BIN)/shardline demo $(ARGS)

test: lint worker
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

kill-campaign: dev
	@$(BIN)/python tests/support/kill_campaign.py --kills 20 $(ARGS)

# The Functions worker's own library, on the Python that Azure runs where there is one.
worker: $(WORKER)/.installed

$(WORKER)/.installed: requirements.txt
	@echo "Making the environment of the Functions worker (once) ..." >&2
	@$(WORKER_PYTHON) -m venv --clear $(WORKER)
	@$(WORKER)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@$(WORKER)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-requires-python --no-deps \
		azure-functions-runtime==1.3.0 azurefunctions-extensions-base >&2
	@touch $@

bench: dev
	@$(BIN)/python -m bench $(ARGS)

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with venv is needed: install python3.11 and python3.11-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . >&2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools for tests (once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
