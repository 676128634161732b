# Two commands do all the set-up: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: quickstart test docs lint format wheel clean
.DEFAULT_GOAL := quickstart

# The trainers' own client code, for tests alone: small wheels without their dependencies.
$(VENV)/.clients: tests/clients/requirements.txt $(VENV)/.installed
	rm -rf $(VENV)/clients
	$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: --python-version 3.11 --target $(VENV)/clients --requirement $<
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; name one with PYTHON=..." if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: $(VENV)/.installed ## the main job on the embedded default: under three minutes, no network
	$(BIN)/hidden-context quickstart

test: $(VENV)/.installed $(VENV)/.clients ## the whole suite with coverage; never touches the network
	rm -f .coverage .coverage.*
	HF_HUB_OFFLINE=1 HIDDEN_CONTEXT_CLIENTS=$(CURDIR)/$(VENV)/clients $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/coverage report --fail-under=90
	$(BIN)/coverage report --fail-under=100 --include='*/distributions/*,*/heads/*,*/statistics/*,*/likelihood/*,*/risk.py'

docs: $(VENV)/.installed ## the documentation site, in site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed ## formatting, style, types and the floors
	PATH="$(CURDIR)/$(BIN):$$PATH" ./lint.sh

format: $(VENV)/.installed
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist site .cache results/quickstart .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
