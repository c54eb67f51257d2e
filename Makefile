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

.PHONY: setup run test tests check lint bench clean

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

bench: setup ## speed as ratios, in one run: see benchmarks/
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS),bench,track]'
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/backtest.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/live.py
	$(BIN)/python benchmarks/web.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python -m pytest -q tests/making/test_tracking.py

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
