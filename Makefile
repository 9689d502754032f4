# Two commands matter: `make demo` shows Rillet at work, `make test` proves it.
# Both set everything up by themselves in .venv, from requirements.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test chaos lint format lock clean

setup: $(STAMP)  ## create .venv with the locked versions and the command `rillet`

# Bytecode is made here: where PYTHONDONTWRITEBYTECODE is set, every start would compile anew.
$(STAMP): requirements.lock pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11 to 3.13 is needed, this is %d.%d; name one with: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	$(BIN)/python -m compileall -q models pipelines
	touch $@

demo: $(STAMP)  ## simulate a stream, run the whole job on it, show the result
	$(BIN)/rillet demo

test: $(STAMP)  ## every test; integration tests fetch what they need
	$(BIN)/python -m pytest

chaos: $(STAMP)  ## kill what a live job stands on, 20 times; the same versions must come out
	$(BIN)/python -m tests.integration.chaos

lint: $(STAMP)  ## formatting, lint, types, the arrows between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra kafka --extra dev --universal \
	  --generate-hashes --no-header --no-emit-index-url --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
