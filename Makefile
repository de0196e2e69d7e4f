# `make all` is what continuous integration runs. PYTHON is the interpreter of an environment with `.[test]` installed.
PYTHON ?= python

.PHONY: all lint types test fast bench build

all: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy methods/*.py datasets/*.py
	$(PYTHON) -m mypy tests

test:
	$(PYTHON) -m pytest

fast:
	$(PYTHON) -m pytest -m "not slow"

bench:
	$(PYTHON) tests/benchmarks/bench.py
	$(PYTHON) tests/benchmarks/scale.py

build:
	$(PYTHON) -m build
