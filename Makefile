# Each target works from a bare clone with Python 3.11 or newer, make and pip.

PYTHON ?= python3
BIN := .venv/bin
FOLDERS := theory numerics verify paper_figures

# A strict editable install links every file, so it is repeated when a file is added or
# removed, and only then (or when a dependency changes). STATE is a checksum of all that.
STATE := $(shell { cat pyproject.toml constraints.txt; \
	find $(FOLDERS) -type f ! -path '*/__pycache__/*' | LC_ALL=C sort; } \
	| cksum | tr -s ' ' '-')
RUNS := $(BIN)/installed-run-$(STATE)
TESTS := $(BIN)/installed-test-$(STATE)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
# The old link tree goes first: a link to a deleted file would keep it importable.
RESET := rm -rf build *.egg-info $(BIN)/installed-*
EDITABLE := --no-build-isolation --config-settings editable_mode=strict --editable

.PHONY: help check figures docs bench test clean

help:
	@echo "make check    run every claim (quick profile) and draw every figure, into results/"
	@echo "make figures  draw every figure, into results/"
	@echo "make docs     write a page for each activation, into docs/"
	@echo "make bench    time the package"
	@echo "make test     the checks of a change: ruff, pyright, lint-imports, pytest"
	@echo "make clean    remove the environment and the caches; results/ stays"
	@echo "PYTHON=...    the interpreter to build the environment with (default: python3)"

check: $(RUNS)
	$(BIN)/asymptest check --profile quick --out results/report.json
	$(BIN)/asymptest figures --out results

figures: $(RUNS)
	$(BIN)/asymptest figures --out results

docs: $(RUNS)
	rm -rf docs/activations
	$(BIN)/asymptest derive all --format markdown --out docs/activations

bench: $(RUNS)
	$(BIN)/asymptest bench

test: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto

clean:
	rm -rf .venv build dist *.egg-info
	rm -rf .coverage .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip arrives last, so an interrupted creation is repeated. Debian ships venv without
# ensurepip; there the pip outside fills the environment.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Asymptest needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv \
		&& $(PYTHON) -m pip --python $(BIN)/python install pip; }

$(RUNS): | $(BIN)/pip
	@echo "Installing into .venv (the first time takes minutes: PyTorch is large)"
	@$(RESET)
	$(PIP) setuptools
	$(PIP) $(EDITABLE) .
	@touch $@

$(TESTS): | $(BIN)/pip
	@echo "Installing into .venv (the first time takes minutes: PyTorch is large)"
	@$(RESET)
	$(PIP) setuptools
	$(PIP) $(EDITABLE) '.[test]'
	@touch $@ $(RUNS)
