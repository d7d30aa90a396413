# Everything a contributor does often. `make` alone shows the list.

PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python3.10 python
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
LOCK := requirements/dev.lock
UV := build/uv/bin/uv
# Groups of tests that use nothing together (tests/conftest.py) run at the same time: they mostly wait.
SIDE_BY_SIDE := --numprocesses 3 --dist loadscope --no-loadscope-reorder
# LOCK_ARGS=--upgrade takes the newest versions; without it, what is locked stays.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.10 --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup run lab doctor test test-all test-sandbox check format bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything that is locked (done by the others when it is needed)

$(STAMP): pyproject.toml $(LOCK)
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.14 is needed. Install one, or name it: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment: its modules venv and ensurepip are missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); this takes a minute or two."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: $(STAMP) ## Run all notebooks without a browser; the report is build/report/index.html
	$(BIN)/dockerlab run --out build/report

lab: $(STAMP) ## Open JupyterLab at the first notebook
	$(BIN)/dockerlab lab

doctor: $(STAMP) ## Look at what the course needs on this machine
	$(BIN)/dockerlab doctor

test: $(STAMP) ## All tests but the nightly ones and the sandbox, at most 10 minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not nightly and not sandbox"

test-all: $(STAMP) ## All tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-sandbox: $(STAMP) ## The notebooks in a pod as strict as Binder's, made from binder/ (Docker, mmdebstrap)
	$(BIN)/python -m pytest tests/sandbox

check: $(STAMP) ## Style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Run every benchmark; a JSON line each, also in build/bench.jsonl
	@mkdir -p build && : > build/bench.jsonl
	@failed=0; for file in benchmarks/[!_]*.py; do \
		$(BIN)/python $$file > build/bench.part || { echo "$$file failed" >&2; failed=1; }; \
		cat build/bench.part | tee -a build/bench.jsonl; \
	done; rm -f build/bench.part; exit $$failed

lock: $(UV) ## Write requirements/*.lock and binder/environment.yml anew (LOCK_ARGS=--upgrade for the newest versions)
	$(COMPILE) --extra test --extra check --extra bench --output-file requirements/dev.lock
	$(COMPILE) --constraint requirements/dev.lock --no-annotate --output-file requirements/run.lock
	$(PYTHON) binder/make_environment.py

$(UV):
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

clean: ## Remove what make made: .venv, build, caches (containers: dockerlab clean)
	rm -rf $(VENV) build dist dockerlab-report .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
