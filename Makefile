# Everything a person or the CI runs. `make` alone lists it. Needs only Python 3.11+ and make.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The newest name first would surprise: the PATH's own python3 wins when it is new enough.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
    $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && command -v $(name))))
BIN := .venv/bin
READY := .venv/.ready
LOCK := requirements.lock
TEST_WORKERS ?= 4
# uv brings its own certificates and does not read pip's settings; behind a company's proxy or mirror both must count.
UV := $(BIN)/uv --quiet $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/cert.pem),--system-certs)
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
# No tool of a target may ask a question or wait on a terminal.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Images of containers set it. Airflow's import takes seven seconds instead of two and a half without what an earlier one compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## create .venv exactly as requirements.lock says (nothing to do: under a second)
	@echo '.venv is ready'

# A finished set-up leaves the stamp; an interrupted one does not and is simply done again.
$(READY): $(LOCK) pyproject.toml fast/fingerprint.c fast/pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
	    echo 'Cannot set up .venv: no Python 3.11 or newer on the PATH. Install one, or name it: make setup PYTHON=...' >&2; exit 1; \
	fi
	@rm -f $(READY)
	@if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    rm -rf .venv; echo "Creating .venv with $(PYTHON)" >&2; \
	    '$(PYTHON)' -m venv .venv || { rm -rf .venv; \
	        echo 'Cannot create .venv: this Python lacks the venv module (on Debian: apt install python3-venv).' >&2; exit 1; }; \
	fi
	@pin="$$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' $(LOCK))"; \
	if ! $(BIN)/uv --version 2>/dev/null | grep -q "^uv $${pin#uv==}\b"; then $(BIN)/python -m pip install --quiet "$$pin"; fi
	@echo 'Installing the locked packages' >&2
	@$(UV) pip sync --python $(BIN)/python --require-hashes $(LOCK)
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@# The fingerprint kernel is a gain, not a need: a machine without a compiler goes on without it.
	@{ command -v cc >/dev/null && $(BIN)/python -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' \
	    && $(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation ./fast; } 2>.venv/fast.log \
	    || echo 'Fingerprints are computed with numpy, in four times the time: no C compiler or Python headers (.venv/fast.log)' >&2
	@touch $(READY)

.PHONY: run
run: $(READY) ## Airflow with the sample inventory, then keep serving (ONCE=1: exit when all tables are queryable)
	@exec $(BIN)/python -m dag_factory.sample run

.PHONY: fleet
fleet: $(READY) ## a production-like Airflow without containers: Celery, two workers, PostgreSQL, Redis, S3, Hive Metastore (docs/deploy.md)
	@tests/servers/install.sh
	@exec $(BIN)/python -m tests.deploy

.PHONY: lint
lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: test
test: $(READY) ## everything the CI runs: servers, lint, tests
	tests/servers/install.sh
	$(MAKE) --no-print-directory lint
	@# A file goes to one worker: what its tests share is made once. The long ones first (tests/conftest.py).
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder -q --durations 10

.PHONY: soak
soak: $(READY) ## the long tests: hundreds of kills, at most an hour; result in docs/soak.md (SEED=N: as that one)
	tests/servers/install.sh
	$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(READY) ## measure against peers; results go to docs/performance.md
	$(BIN)/python -m benchmarks

.PHONY: lock
lock: ## resolve pyproject.toml again and write requirements.lock (UPGRADE=1: take newer versions)
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory setup
	@$(UV) pip compile pyproject.toml --universal --python-version 3.11 --all-extras --group sample --group test \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	    --output-file $(LOCK)

.PHONY: clean
clean: ## remove .venv, caches and what a build left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist ./*.egg-info fast/build fast/*.egg-info
	find airflow_dataops dag_factory dags tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
