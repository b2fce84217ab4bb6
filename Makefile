# One command sets up and runs (make demo), one sets up and tests (make test). Works with GNU make 3.81 and newer.
#
# .venv holds everything that is installed, build/ every object file, and both survive between calls. A stamp in .venv
# says what is installed already, so that a repeated make starts at once; only sources that changed are compiled.

PYTHON ?= python3
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# Python runs from src/ (a new file is there at once); CMake puts the compiled core beside it.
INSTALL := $(PIP) install --no-build-isolation -C editable.mode=inplace -C wheel.cmake=false
BUILD := build/native
NATIVE_SOURCES := CMakeLists.txt $(shell find native -type f 2>/dev/null)
CXX_FILES = $(shell find native -name '*.cpp' -o -name '*.h' 2>/dev/null)

# -k native leaves the other engines' half of the contract out, and so PyTorch.
NATIVE_TESTS := -k native tests/native tests/engines/test_contract.py

.PHONY: help demo test test-v3 test-v2 check-slow sanitize sanitize-thread cross-aarch64 lint types imports format native dev clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo $(VENV)/.native ## install, then train a small network on handwritten digits (no download of data)
	@$(VENV)/bin/fovea demo

test: $(VENV)/.test $(VENV)/.native ## install what the tests need, then run them
	@$(PY) -m pytest $(ARGS)

# Kernels and plans with a lower instruction set than this CPU's (elsewhere than on x86-64: with the only one).
test-v3 test-v2: test-%: $(VENV)/.test $(VENV)/.native
	@FOVEA_ISA=$* $(PY) -m pytest $(NATIVE_TESTS)

check-slow: $(VENV)/.test $(VENV)/.native test-v2 sanitize-thread cross-aarch64 ## run the tests that take minutes
	@$(PY) -m pytest -m slow $(ARGS)

# On Linux with gcc, else left out.
sanitize: $(VENV)/.test ## kernels and plans on a core with AddressSanitizer and UndefinedBehaviorSanitizer
	@JOBS=$(JOBS) native/sanitize.sh address,undefined build/sanitize $(NATIVE_TESTS)

sanitize-thread: $(VENV)/.test
	@JOBS=$(JOBS) native/sanitize.sh thread build/sanitize-thread tests/native/test_runtime.py tests/native/test_plan_bits.py

# On Debian with its cross compiler and qemu, else left out. The test that forks a process with threads ends in an
# assertion of qemu itself.
cross-aarch64: $(VENV)/.test
	@JOBS=$(JOBS) native/cross.sh build/aarch64 $(NATIVE_TESTS) --deselect \
		tests/native/test_runtime.py::test_a_forked_child_gets_threads_of_its_own

lint: $(VENV)/.dev ## ruff (rules and layout) and clang-format
	@$(VENV)/bin/ruff check --output-format concise .
	@$(VENV)/bin/ruff format --check --output-format concise .
	@test -z "$(CXX_FILES)" || $(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)

format: $(VENV)/.dev ## lay out Python and C++ files as lint wants them
	@$(VENV)/bin/ruff check --fix-only --exit-zero --quiet .
	@$(VENV)/bin/ruff format .
	@test -z "$(CXX_FILES)" || $(VENV)/bin/clang-format -i $(CXX_FILES)

types: $(VENV)/.dev ## mypy --strict
	@$(VENV)/bin/mypy

imports: $(VENV)/.dev ## who may import whom
	@$(VENV)/bin/lint-imports --no-logo

native: $(VENV)/.native ## build what changed in the C++ core
dev: $(VENV)/.test $(VENV)/.dev $(VENV)/.native ## install everything that development needs

clean: ## remove .venv, build and caches; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +

# --- installation ---------------------------------------------------------------------------------------------------

# What pyproject.toml names under [build-system], and CMake with Ninja from wheels, so that a compiler is all one needs.
$(VENV)/.tools:
	@echo "creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "[make] expected Python 3.10 or newer, got " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ',' | xargs $(PIP) install 'pip>=23.1' 'cmake>=3.26' ninja
	@touch $@

$(VENV)/.demo: $(VENV)/.tools pyproject.toml
	@echo "installing fovea"
	@$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.tools pyproject.toml
	@echo "installing fovea with what its tests need"
	@$(INSTALL) --editable '.[test,demo]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.tools pyproject.toml
	@echo "installing the tools of development"
	@$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.native: $(VENV)/.tools pyproject.toml $(NATIVE_SOURCES)
	@cxx=$${CXX:-c++}; command -v "$${cxx%% *}" >/dev/null || { echo "[make] expected a C++17 compiler, found no $${CXX:-c++}; install gcc or clang, or name one: make CXX=clang++"; exit 1; }
	@echo "building the C++ core (the first time: a few minutes)"
	@$(VENV)/bin/cmake -S . -B $(BUILD) -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja \
		-DPython_EXECUTABLE=$(CURDIR)/$(PY) --log-level=ERROR
	@$(VENV)/bin/cmake --build $(BUILD) --parallel $(JOBS)
	@$(VENV)/bin/cmake --install $(BUILD) --prefix src >/dev/null
	@touch $@
