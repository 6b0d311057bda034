# Two commands: `make reproduce` re-measures the published claims, `make test` runs the suite.
.PHONY: reproduce test test-slow setup lint bench notebooks clean

VENV := .venv
BIN := $(VENV)/bin
# Several: SYSTEMS="tnl chiplet"; all that are built: SYSTEMS=
SYSTEMS ?= tnl
SCALE ?= laptop
WORKERS ?= 2

reproduce: $(VENV)/.recipes
	$(BIN)/jaxml reproduce $(SYSTEMS) --scale $(SCALE)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n $(WORKERS) --doctest-modules --doctest-continue-on-failure tests jaxml kernels

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow tests

lint: $(VENV)/.dev
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/basedpyright

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

notebooks: $(VENV)/.dev
	$(BIN)/jupytext --to ipynb --update colabs/*.py

setup: $(VENV)/.dev

$(VENV)/.recipes: pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV) recipes

$(VENV)/.dev: pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV) dev

clean:
	rm -rf $(VENV) report build dist *.egg-info
