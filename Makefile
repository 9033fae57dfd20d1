# Two commands do everything on a fresh Debian 12 machine: `make demo` (no root) and `make test`.
# The environment is .venv, made from hash-locked requirements; caches live in $XDG_CACHE_HOME/sealift.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

BENCHES := receive delta build box ledger rollback gateway engine vllm phi

# Where an environment forbids it, each of the thousands of processes that tests start compiles all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo box check fast test test-deep bench $(addprefix bench-,$(BENCHES)) lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked environment into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $(STAMP)

install: $(STAMP)  ## Make .venv with everything the other commands need

demo: $(STAMP)  ## The whole line with a real model, no root; KEEP=1 leaves it running
	@$(BIN)/python -m examples.demo.run $(if $(KEEP),--keep) $(if $(OUT),--out $(OUT))

box: $(STAMP)  ## The same release into a real air-gapped Debian 12 (root)
	@$(BIN)/python tests/box/box.py

check: $(STAMP)  ## Format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Both at once: mypy needs one core for half a minute. Three workers for two cores, since a test waits for its disk and
# for others a fifth of its time.
test: $(STAMP)  ## The fast tier: at most five minutes
	@$(MAKE) --no-print-directory -j 2 check fast

# In memory where there is room: tests sync what they write to their folders tens of thousands of times.
FOLDERS = $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 2000000 ] 2>/dev/null && echo /dev/shm || echo "$${TMPDIR:-/tmp}")

fast: $(STAMP)
	@TMPDIR="$(FOLDERS)" $(BIN)/python -m pytest -q -o tmp_path_retention_policy=failed -n 3 --dist loadfile $(addprefix --ignore=tests/,browser engines fault hardware interop) -m "not slow and not demo and not box and not browser and not fault and not interop and not engines and not hardware"

test-deep: $(STAMP)  ## The slow shards, or one: make test-deep SHARD=demo
	@$(BIN)/python -m tests.shards $(SHARD)

bench: $(addprefix bench-,$(BENCHES))  ## All benchmarks; each writes build/bench/NAME.json

$(addprefix bench-,$(BENCHES)): bench-%: $(STAMP)  # SIZE=1GiB ROUNDS=3 for a short run; BENCH_DIR=a folder on the disk to measure; BENCH_MEDIUM=where media lie
	@$(BIN)/python -m bench.$*

lock: $(STAMP)  ## Write the hash-locked requirement files anew
	@sh requirements/lock.sh

clean:  ## Remove what was built; the caches outside the checkout stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
