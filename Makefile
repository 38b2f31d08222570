# Two commands to start: `make demo` and `make test`. Both set everything up in .venv, through constraints.txt.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export PIP_CONSTRAINT := $(abspath constraints.txt)
# Tests on real pictures look here and say why they skip where there is nothing.
ifneq ($(wildcard ../shared),)
export KRONREID_SHARED ?= $(abspath ../shared)
endif

.PHONY: demo test lint types unit install clean

demo: $(VENV)/installed
	$(VENV)/bin/kronreid demo --out demo

test: lint types unit

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(VENV)/installed-test
	$(VENV)/bin/mypy

unit: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || (echo "python3-venv is needed: apt-get install python3-venv" >&2; exit 1)
	$(PIP) install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
