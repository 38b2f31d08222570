# Two commands to start: `make demo` and `make test`. Both set everything up in .venv, through constraints.txt.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export PIP_CONSTRAINT := $(abspath constraints.txt)
# All that commands need on one machine: Ray is for clusters, and a CUDA build of torch brings Triton itself.
EXTRAS := data,export,figures,gallery,serve,train,video
# Tests on real pictures look here and say why they skip where there is nothing.
ifneq ($(wildcard ../shared),)
export KRONREID_SHARED ?= $(abspath ../shared)
endif

.PHONY: demo test lint types unit docs browser milvus install clean

demo: $(VENV)/installed
	$(VENV)/bin/kronreid demo --out demo

test: lint types unit

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(VENV)/installed-test
	$(VENV)/bin/mypy

# Two processes with one thread each: with more threads they would take the cores from each other. One that has
# finished its half takes over tests of the other's.
# Compiled modules are kept even where the environment forbids it: each worker and each of the processes that
# tests start would compile them again.
unit: export PYTHONDONTWRITEBYTECODE :=
unit: $(VENV)/installed-test browser milvus
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

# The documentation as a site in site/, which can be opened from the disk; served, it can be searched as well:
# .venv/bin/python -m http.server --directory site
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "open site/index.html"

# The page's tests run in Chromium, best in its form without windows, which takes less time; where there is none
# and it cannot be installed, they skip and say so.
DEBIAN = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	&& apt-get install -y -qq --no-install-recommends fonts-liberation
browser:
	@command -v chromium-headless-shell >/dev/null || { $(DEBIAN) chromium-headless-shell >/dev/null 2>&1; } \
	|| { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
	|| { $(DEBIAN) chromium >/dev/null; } \
	|| echo "no Chromium (apt-get install chromium): the page's tests will skip" >&2

# A real Milvus server for the gallery's tests (300 MB), in an environment of its own; they skip without.
milvus:
	@test -x .venv-milvus/bin/milvus-server \
	|| { $(PYTHON) -m venv .venv-milvus && .venv-milvus/bin/python -m pip install --quiet milvus; } \
	|| { rm -rf .venv-milvus; echo "Milvus could not be installed: tests on a server will skip" >&2; }

install: $(VENV)/installed

# __init__.py holds the version, which the installed package keeps a copy of.
$(VENV)/installed: pyproject.toml constraints.txt src/kronreid/__init__.py
	$(PYTHON) -m venv $(VENV) || (echo "python3-venv is needed: apt-get install python3-venv" >&2; exit 1)
	$(PIP) install --quiet --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install --quiet --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-milvus demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
