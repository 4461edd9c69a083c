# Two commands do everything: `make demo` and `make test`. Both work on a fresh machine with Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# test files that run at once
JOBS ?= 2

.PHONY: demo test lint clean

demo: $(VENV)/.installed-synth
	$(BIN)/edgesynth synth --target tx2

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed-%: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
