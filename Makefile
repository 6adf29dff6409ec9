# The verbs of this repository. Each builds what it needs from a bare clone; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
DEMO ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Small models on busy cores run ten times slower when OpenMP threads spin.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev demo test test-slow check docs reference bench clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## Make .venv and install caretrace into it

install-dev: $(VENV)/.installed-dev ## The same with what tests, checks and docs need

demo: $(VENV)/.installed ## Simulated patients and four applications, all the way to demo/report.html
	@if [ -f $(DEMO)/report.html ]; then \
		echo "$(DEMO)/report.html is there: open it in a browser. To run the demo again, remove the folder $(DEMO)."; \
	else $(BIN)/caretrace demo --out $(DEMO); fi

PYTEST := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=2 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test: $(VENV)/.installed-dev ## Run the tests; CARETRACE_DATA=FOLDER adds those on real data
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-dev ## Run those that take long: Spark, kills, several processes, calibration
	$(PYTEST) -m slow

check: $(VENV)/.installed-dev ## Lint, format, types, and which layer may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev ## Build the pages into site/, strictly
	$(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html in a browser."

reference: $(VENV)/.installed-dev ## Write docs/cli.md, docs/settings.md and the table of backbones from the code
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/settings_reference.py
	$(BIN)/python scripts/backbone_reference.py

bench: $(VENV)/.installed-dev ## Compare our labels with those of ACES, row for row, on random tasks
	$(BIN)/python benchmarks/aces_parity.py --random 200

clean: ## Remove .venv, caches and built pages; demo/ and runs/ stay
	rm -rf $(VENV) site dist build .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt scripts/make_venv.py scripts/install_torch.py
	@command -v $(PYTHON) >/dev/null || { echo "caretrace: no $(PYTHON) here; install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) scripts/make_venv.py $(VENV)
	@echo "Installing caretrace and what it needs into $(VENV): 2 GB, a few minutes."
	@$(BIN)/python scripts/install_torch.py
	@$(PIP) install --quiet -c constraints.txt -e '.[serve]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what tests, checks and docs need."
	@$(PIP) install --quiet -c constraints.txt -e '.[test,check,docs]'
	@touch $@
