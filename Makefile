# Builds its own virtual environment; a Linux machine with Python 3.11+ and make is enough.
PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/.installed
OLDEST ?= .venv-oldest

.PHONY: train lint test test-all test-oldest bench csrc install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

train: $(INSTALLED)       ## the embedded default: draw birds, train a small model, edit, measure
	$(VENV)/bin/tmgan train

lint: $(INSTALLED)        ## ruff (rules and format) and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: $(INSTALLED)        ## under 15 minutes on 2 cores
	$(VENV)/bin/python -m pytest -n 2

test-all: $(INSTALLED)    ## the slow tests too
	$(VENV)/bin/python -m pytest -n 2 -m 'slow or not slow'

# With the oldest torch and Triton: what depends on their version.
$(OLDEST)/.installed: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -e . -r tests/oldest.txt
	touch $@

test-oldest: $(OLDEST)/.installed  ## kernels, engines and published numbers with torch 2.11 and Triton 3.6
	$(OLDEST)/bin/python -m pytest -n 2 tests/tmgan_kernels tests/training/test_engines.py tests/test_goldens.py

bench: $(INSTALLED)       ## speed of the kernels: minutes on a GPU, a check of the harness on a CPU
	$(VENV)/bin/python -m pytest benchmarks

csrc: $(INSTALLED)        ## the CUDA C++ kernels, where there is an nvcc: one command, a minute or two
	$(VENV)/bin/python -m tmgan_kernels.build

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info
