# `make` prints this list.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
N ?= 1000
WITHOUT_LAB := not lab and not lab_fault and not lab_matrix and not lab_soak
PACKAGES := $(shell sed -n 's/^APT_PACKAGES="\(.*\)"/\1/p' .ci/packages)

.DEFAULT_GOAL := help
SEEDS ?= 250000
.PHONY: help demo test coverage check check-static lab lab-faults dev bench openapi docs clean
.PHONY: lab-matrix screenshots soak-lab soak

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/installed ## See a simulated host evacuated, kept empty and brought back
	@$(BIN)/furlough demo

test: $(VENV)/installed-test check-static coverage ## Everything: format, lint, types, imports, all tests
	$(BIN)/python -m pytest -m lab
	$(BIN)/python -m pytest -m "$(WITHOUT_LAB)" -n 2 \
		--ignore=tests/core --ignore=tests/planning --ignore=tests/prechecks

coverage: $(VENV)/installed-test ## Every line of the pure packages is run by their own tests
	$(BIN)/python -m pytest tests/core tests/planning tests/prechecks --cov=furlough.core \
		--cov=furlough.planning --cov=furlough.prechecks --cov-report= --cov-fail-under=100

check: $(VENV)/installed-test check-static ## The inner loop: all but lab, browser and long simulations
	$(BIN)/python -m pytest -m "$(WITHOUT_LAB) and not postgres and not long and not browser"

check-static: $(VENV)/installed-test
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports | tail -n 1

lab-faults: $(VENV)/installed-test ## As root: the whole matrix of faults on real hosts
	$(BIN)/python -m pytest -m lab_fault

lab-matrix: $(VENV)/installed-test ## As root: the kill matrix on real hosts, into docs/
	@rm -f .kill-matrix
	FURLOUGH_MATRIX=$(CURDIR)/.kill-matrix $(BIN)/python -m pytest -m lab_matrix
	$(BIN)/python -m tests.lab.matrix.table .kill-matrix docs/kill-matrix.md

soak-lab: $(VENV)/installed-test ## As root: N=1000 real migrations in a row, in one run or several
	FURLOUGH_SOAK=$(CURDIR)/.soak-lab FURLOUGH_SOAK_N=$(N) $(BIN)/python -m pytest -s -m lab_soak

soak: $(VENV)/installed-test ## SEEDS=250000 evacuations in simulated bad weather; goes on where it stopped
	$(BIN)/python -m scripts.soak run $(SEEDS)

lab: $(VENV)/installed ## As root: the journey on real hosts with real VMs
	@PYTHON=$(BIN)/python scripts/lab-journey

dev: $(VENV)/installed ## A daemon with a simulated cluster, until Ctrl-C
	$(BIN)/furlough serve --simulate --data-dir .dev

bench: $(VENV)/installed-test ## Benchmarks, with their targets
	$(BIN)/python -m bench

openapi: $(VENV)/installed ## Write the API schema anew; the difference is reviewed like code
	$(BIN)/python -m furlough.openapi > openapi/v1.json

docs: $(VENV)/installed ## Write the generated parts of the reference anew
	$(BIN)/python -m scripts.reference

screenshots: $(VENV)/installed-test ## Take the pictures of the pages anew (needs chromium)
	$(BIN)/python -m tests.ui.screenshots docs/screenshots

clean: ## Remove what make has made
	rm -rf $(VENV) .dev .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f .kill-matrix .soak-lab .soak.json

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# libvirt's binding has no wheel: it is built where libvirt's headers are.
$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@if pkg-config --exists libvirt 2>/dev/null; then \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[libvirt]'; \
	else echo "libvirt's headers are not installed: tests with real hosts will be skipped."; fi
	@touch $@
