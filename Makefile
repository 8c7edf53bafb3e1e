# Each target makes .venv first, if needed, and installs what it needs: exact versions from the
# lock, or with LOCKED=no the newest that pyproject.toml allows. On Windows: docs/how-to/install.md.
PYTHON ?= python3
LOCKED ?= yes
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: app test test-cluster test-image lint check format smoke benchmark screenshots lock clean

app: .venv/runtime  ## serve the page on http://localhost:8501
	$(BIN)/python -m mseenet app

test: lint  ## linter, formatter, types, imports and all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

test-cluster: .venv/development  ## the tests that `test` leaves out: parts of Ray are killed
	$(BIN)/python -m pytest -m cluster

test-image: .venv/development  ## builds what deploy/Dockerfile says, as root, and starts it
	$(BIN)/python -m pytest -m image

lint: .venv/development  ## all of `test` but the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: .venv/development  ## only the tests that take seconds
	$(BIN)/python -m pytest -m "not slow and not cluster and not image"

format: .venv/development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smoke: .venv/development  ## the whole training path in a minute, on rendered images
	$(BIN)/python -m mseenet train --smoke

benchmark: .venv/runtime
	$(BIN)/python -m mseenet benchmark

screenshots: .venv/development  ## the pictures of the README, from rendered images
	$(BIN)/python -m tools.screenshots

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"

lock: .venv/development  ## newest versions of everything into all locks: make lock
	$(LOCK) --upgrade pyproject.toml --output-file requirements.lock
	$(LOCK) --upgrade --extra dev --constraint requirements.lock pyproject.toml \
		--output-file requirements-dev.lock
	$(LOCK) --extra auth --constraint requirements-dev.lock pyproject.toml \
		--output-file deploy/requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis dist

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "error: found no $(PYTHON); set PYTHON=/path/to/python3.11 (or 3.12, 3.13)" >&2; exit 2; }
	@$(PYTHON) mseenet/supported.py
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.lock requirements.txt | .venv/bin/python
	@$(call install,requirements.lock,-r requirements.txt)
	@touch $@

.venv/development: requirements-dev.lock pyproject.toml | .venv/bin/python
	@$(call install,requirements-dev.lock,-e ".[dev]")
	@touch $@ .venv/runtime

# install(lock, what is installed without the lock)
define install
if [ "$(LOCKED)" = no ]; then $(PIP) $(2); \
else $(PIP) --only-binary :all: --require-hashes -r $(1) || { \
	echo "error: the versions of $(1) cannot be installed here (see above); LOCKED=no takes the newest that fit instead" >&2; \
	exit 1; }; fi
endef
