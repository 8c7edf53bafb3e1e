# Each target makes .venv first, if needed, and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test check format smoke benchmark screenshots clean

app: .venv/runtime  ## serve the page on http://localhost:8501
	$(BIN)/streamlit run app.py

test: .venv/development  ## linter, formatter and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

check: .venv/development  ## only the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

format: .venv/development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smoke: .venv/runtime  ## the whole training path in a minute, on rendered images
	$(BIN)/python -m mseenet.train --smoke

benchmark: .venv/runtime
	$(BIN)/python -m mseenet.benchmark

screenshots: .venv/development  ## the pictures of the README, from rendered images
	PYTHONPATH=. $(BIN)/python tests/screenshots.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: expected Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/development: requirements-dev.txt .venv/runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
