# `make all` is what continuous integration runs. PYTHON is the interpreter of an environment with `.[test]` installed.
PYTHON ?= python

.PHONY: all lint types test test-first test-second fast bench build

all: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy methods/*.py datasets/*.py
	$(PYTHON) -m mypy tests

# two halves at a time: much of the suite waits for processes of its own. The tests of clusters, which take minutes, are
# among them where the extra `cluster` is installed
test:
	$(MAKE) --no-print-directory --output-sync=target --jobs=2 test-first test-second

FIRST = tests/check tests/cli tests/methods tests/reporting tests/training tests/flat

test-first:
	$(PYTHON) -m pytest $(FIRST)

test-second:
	$(PYTHON) -m pytest $(addprefix --ignore=,$(FIRST))

fast:
	$(PYTHON) -m pytest -m "not slow"

bench:
	$(PYTHON) tests/benchmarks/bench.py
	$(PYTHON) tests/benchmarks/scale.py

build:
	$(PYTHON) -m build
