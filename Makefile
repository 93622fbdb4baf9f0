# Two commands on a fresh machine: `make demo` and `make test`. Every target makes .venv and installs into it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types coverage docs clean

demo: $(VENV)/.installed
	rm -rf demo-run
	$(BIN)/actionpool demo -o demo-run

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile

check: lint types coverage

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile --cov

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open site/index.html"

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("actionpool needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo-run site build dist .coverage .pytest_cache .mypy_cache .ruff_cache
