# make demo, make test: all that a newcomer needs. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ANONYMETER := .venv-anonymeter
# Set to PyTorch's CPU wheel index (see README, Installing) where a plain install would bring CUDA.
TORCH_INDEX ?=
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage lint types bench calibrate study serve lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with everything, ctgan and a CPU torch included

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[ctgan,s3,dev]'
	touch $(STAMP)

demo: install ## start everything embedded, run real jobs, say where rows and reports are
	$(BIN)/python -m app.demo

test: install lint types ## install and run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests

coverage: install ## the tests again, with the lines that none of them runs (half as long again)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered -m "not slow" tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

# A peer that is measured beside ours, and is no dependency: an environment of its own.
$(ANONYMETER)/.installed: benchmarks/peers/anonymeter.txt
	$(PYTHON) -m venv $(ANONYMETER)
	$(ANONYMETER)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/anonymeter.txt
	touch $@

# A real local model for its own slow test: builds llama.cpp from source.
.venv-llama/.installed: benchmarks/peers/llama.txt
	$(PYTHON) -m venv .venv-llama
	.venv-llama/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/llama.txt
	touch $@

bench: install $(ANONYMETER)/.installed ## run the slow tests and the benchmarks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --requirement benchmarks/tables.txt
	$(BIN)/python -m pytest -m slow tests
	for name in http_load job_latency marginals evaluation anonymeter exactness compiling ctgan; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

calibrate: install ## hold the evaluator itself against known truths, 400 draws (make test: 40)
	SYNTHWARD_CALIBRATION_REPEATS=400 $(BIN)/python -m pytest -q tests/calibration

study: install ## do the study of the flagship cohort again over HTTP; writes docs/study.md (slow)
	OMP_NUM_THREADS=1 nice $(BIN)/python -m benchmarks.study

serve: install ## start the service on 127.0.0.1:8000 with its data in synthward-data/
	$(BIN)/synthward serve --host 127.0.0.1 --port 8000 --data-dir synthward-data

lock: install ## write the versions in use to requirements.lock
	$(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ ' | sed 's/+cpu$$//' > requirements.lock

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) $(ANONYMETER) .venv-llama .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
