# `make all` is what continuous integration runs. PYTHON is the interpreter of an environment with `.[test]` installed.
PYTHON ?= python

.PHONY: all lint types test test-first test-second test-cluster fast bench build

all: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy methods/*.py datasets/*.py
	$(PYTHON) -m mypy tests

# three parts at a time: much of the suite waits for processes of its own, and those of a cluster wait most
test:
	$(MAKE) --no-print-directory --output-sync=target --jobs=3 test-first test-second test-cluster

FIRST = tests/check tests/cli tests/methods tests/reporting tests/training tests/flat
CLUSTER = tests/runs/test_cluster.py

test-first:
	$(PYTHON) -m pytest $(FIRST)

test-second:
	$(PYTHON) -m pytest $(addprefix --ignore=,$(FIRST) $(CLUSTER))

test-cluster:
	$(PYTHON) -m pytest $(CLUSTER)

fast:
	$(PYTHON) -m pytest -m "not slow"

bench:
	$(PYTHON) tests/benchmarks/bench.py
	$(PYTHON) tests/benchmarks/scale.py

build:
	$(PYTHON) -m build
