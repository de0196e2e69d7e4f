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

# a process a core, each test file in one of them. The tests of clusters are among them where the extra is installed
test:
	$(PYTHON) -m pytest -n auto --dist loadfile

fast:
	$(PYTHON) -m pytest -m "not slow"

bench:
	$(PYTHON) tests/benchmarks/bench.py
	$(PYTHON) tests/benchmarks/scale.py

build:
	$(PYTHON) -m build
