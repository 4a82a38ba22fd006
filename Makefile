# The commands of this project. Each makes the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests at a time; many wait for a process or a clock.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-all check quick chaos proto bench gpu matrix clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# pip's own configuration (index, proxy, certificates) is honoured: nothing is overridden here.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable ".[all]" --group dev
	@touch $(READY)

demo: $(READY) ## a run with an LR 30x too high, alone and under LRPilot
	@$(BIN)/lrpilot demo

test: $(READY) ## the test suite, without what is marked slow or alone
	$(PYTEST) -m "not slow and not alone"

test-all: test ## the whole test suite; what measures time or memory (alone) runs last, with no other
	$(PYTEST) -m "slow and not alone"
	$(BIN)/python -m pytest -q -m alone

check: $(READY) ## format, lint, types, generated code (boundaries and purity: tests/test_boundaries.py)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m pytest -q tests/test_boundaries.py

quick: $(READY) ## nine searches through a real daemon; fails on a clear regression of quality
	$(BIN)/python -m tests.benchmarks.quality --quick

proto: $(READY) ## regenerate the checked-in protobuf code
	$(BIN)/python protos/generate.py

chaos: $(READY) ## everything goes wrong for SECONDS=60, as drawn from SEED=0; fails where anything is lost
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) --seed $(or $(SEED),0)

bench: $(READY) ## speed and rescue quality; results as data in tests/benchmarks/results
	$(BIN)/python -m tests.benchmarks

gpu: $(READY) ## what needs a GPU: checks and figures, with the device's name; status 3 without one
	PYTHONPATH=tests $(BIN)/python -m tests.benchmarks.gpu

matrix: $(READY) ## the oldest and newest torch, Lightning, grpcio and protobuf, on each Python here
	$(BIN)/python -m tests.matrix $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
