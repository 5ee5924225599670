# On a bare machine with Python (3.11 or newer) and make: `make run` shows what esa-tls does, `make test` checks it.
# Everything is installed into .venv, from requirements.lock and by hash.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup interpreted run test check peers bench fuzz proto rules man dist nightly docs lock lock-upgrade clean dashboards

setup: $(READY)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "esa-tls needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing from requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The core, compiled ahead of time where there is a C compiler; anew whenever its sources change.
$(READY): $(INSTALLED) tools/compile_core.py $(wildcard plugin/esa_tls/core/*.py)
	@$(BIN)/python tools/compile_core.py --if-possible
	@touch $@

# The core as it is written, until the next `make setup`; for work on it.
interpreted: $(INSTALLED)
	@$(BIN)/python tools/compile_core.py --remove
	@rm -f $(READY)

run: setup
	@$(BIN)/esa-tls demo tests/corpus/*.log

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Programs of others that tests run against, built or installed into build/peers if they are not there yet (minutes the first time). Without
# their tools (go, node, apt-get as root) their tests are skipped, and fail where CI=true.
peers: setup
	@$(BIN)/python -m tests.peers.building

# The core's own tests twice: as it is written, then, with all others, as it is compiled.
test: check docs peers
	ESA_TLS_CORE=interpreted $(BIN)/pytest -n 2 --dist loadfile -q tests/unit/core tests/golden
	$(BIN)/pytest -n 2 --dist loadfile

bench: setup
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

fuzz: setup
	$(BIN)/pytest -m fuzz -p no:xdist --timeout 0

nightly: setup peers
	ESA_TLS_NIGHTLY=1 $(BIN)/pytest -m "not fuzz" --timeout 0 -n 2 --dist loadfile

# Stubs and snapshot from proto/, after a check that no client breaks (proto/README.md).
proto: setup
	@$(BIN)/python tools/make_proto.py

# The manual pages in deploy/man, from the commands.
man: setup
	@$(BIN)/python tools/make_man.py

# sdist and wheel in dist/, the wheel made from the sdist.
dist: setup
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist

# Queries of all languages from the Sigma rules in deploy/rules, and the pipelines from the record fields (docs/rules.md).
rules: setup
	@$(BIN)/python tools/make_rules.py

# Dashboards from deploy/dashboards/source.yaml, and two pages of the manual from it and from docs/queries.yaml.
dashboards: setup
	@$(BIN)/python -m tools.make_dashboards

# Writes the locks anew from pyproject.toml, keeping versions where it can; lock-upgrade takes the newest. The image's has the same versions.
# The tools that convert rules have one of their own, as they are never installed beside the product.
SIGMA := tests/peers/sigma/requirements
lock:
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" --quiet --output-file requirements.lock $(LOCK_ARGS)
	@$(BIN)/uv pip compile pyproject.toml --extra charts --extra kafka --universal --python-version 3.12 --generate-hashes --constraint requirements.lock \
	    --custom-compile-command "make lock" --quiet --output-file deploy/container/requirements.lock
	@$(BIN)/uv pip compile $(SIGMA).in --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" --quiet --output-file $(SIGMA).txt $(LOCK_ARGS)

lock-upgrade:
	@$(MAKE) lock LOCK_ARGS=--upgrade

clean:
	rm -rf docs/_build docs/_generated .mypy_cache .pytest_cache .ruff_cache .hypothesis esa-tls-data
