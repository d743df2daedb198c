# Two commands: `make run` and `make test`. Both work from a fresh clone with python3.11 (or later), venv and make.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run demo test lint bench install dev clean

run: install
	@$(BIN)/shardline up $(ARGS)

demo: install
	@$(BIN)/shardline demo $(ARGS)

test: lint
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

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
