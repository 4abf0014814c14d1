# Every chore has a target here; a newcomer needs `make demo` and `make test` only.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check bench venv

demo: venv  ## fine-tune a pretrained model on real images with two ranks, all layers and head only
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.demo

test: venv  ## the test suite
	$(BIN)/python -m pytest

test-all: venv  ## the test suite with its slow parts
	$(BIN)/python -m pytest -m ""

check: venv  ## lint, types, import contracts, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

bench: venv  ## every figure against its peer, in about a quarter of an hour
	$(BIN)/python -m benchmarks.bench

venv: .venv/installed  ## the environment, with the pinned versions of pyproject.toml

.venv/installed: pyproject.toml
	@echo "Installing into .venv: about 6.4 GB, mostly torch and CUDA; a few minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[dev]'
	touch $@
