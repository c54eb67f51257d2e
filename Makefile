# Two words do everything on a fresh machine: `make run` and `make test`.
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := train,live,web,cloud,ray,dev

# uv does not read pip's configuration: hand it the local wheel folders that pip was told of (none on most machines).
ifndef UV_FIND_LINKS
export UV_FIND_LINKS := $(shell $(PY) -m pip config get :env:.find-links 2>/dev/null || $(PY) -m pip config get global.find-links 2>/dev/null)
endif

# Without an NVIDIA driver, ask for torch's CPU build: the same numbers, a tenth of the download.
ifndef UV_TORCH_BACKEND
ifeq ($(UV_FIND_LINKS),)
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
export UV_TORCH_BACKEND := cpu
endif
endif
endif

# The tests start a hundred interpreters: what one has compiled, the others need not, even where the shell says otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test tests check lint bench docs dist wheel-test lowest resolve nightly clean

setup: $(VENV)/.done ## make .venv with crpbot and its extras

$(VENV)/.done: pyproject.toml constraints.txt
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crpbot needs Python 3.11 or later: make run PY=python3.12")'
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

run: setup ## the main job on the bundled real candles
	$(BIN)/crpbot run

test: setup ## everything CI runs
	$(MAKE) --no-print-directory -j 2 lint tests

tests: setup # beside `lint`: mypy alone would leave a core idle
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: setup ## the inner loop, under 30 seconds
	$(BIN)/ruff check -q .
	$(BIN)/python -m pytest -q -n 2 -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## everything beside what people would use instead, in 20 minutes: docs/benchmarks.md
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS),bench,track]'
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)
	$(BIN)/python -m pytest -q tests/making/test_tracking.py

docs: setup ## the site, into build/site (with --quiet, mkdocs would not be strict)
	$(BIN)/python -m mkdocs build

dist: setup ## the archives of a release: see docs/packaging.md
	$(BIN)/python scripts/release.py dist

wheel-test: setup ## the tests against the built wheel, away from the sources
	$(BIN)/python scripts/release.py test

lowest: setup ## the same with the lowest versions that are allowed
	$(BIN)/python scripts/release.py lowest

resolve: setup ## wheels for every Python and system that is promised
	$(BIN)/python scripts/release.py resolve

# What takes hours, all of it though one part fails: docs/hardening.md. Each line may be called alone.
nightly: setup ## fuzzers for ten minutes each, a kill at every point, a week of live
	-$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS),fuzz]'
	$(BIN)/python scripts/nightly.py $(NIGHT)

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
