# Everything a newcomer needs. Each target first sets up what it needs; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Airflow is imported by many processes: where nothing is kept of it compiled, each takes seconds longer to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test browser test-all check requirements requirements-check bench bench-fleet faults compose-test helm-test release clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 20

demo: $(READY)  ## run both upload DAGs in Airflow on sample data, against a simulated Tidepool
	@$(BIN)/python -m dev.demo

up: $(READY)  ## start Airflow with its web UI and a simulated Tidepool; Ctrl-C stops both
	@$(BIN)/python -m dev.up

# Tests wait for a disk or a clock half of the time, so there are two processes per processor.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
T ?=
test: $(if $(T),$(READY),check)  ## the checks, and all tests but the slow ones; with T=tests/… just those tests, slow or not
	$(PYTEST) $(or $(T),-n $(JOBS) --dist loadfile -m "not slow")

browser: $(READY)  ## test the pages in headless Chromium; screenshots go to .local/browser
	@for name in $${CHROMIUM:-chromium chromium-browser google-chrome google-chrome-stable}; do \
	  command -v "$$name" >/dev/null && exit 0; done; \
	echo "make browser needs Chromium: apt-get install chromium (Debian, Ubuntu), brew install --cask chromium" \
	  "(macOS), or set CHROMIUM to the path of one." >&2; exit 2
	$(PYTEST) -m browser tests/integration/browser

test-all: check requirements-check  ## the checks, and the slow tests, which run real schedulers
	$(PYTEST) -n 2 --dist loadfile -m slow

check: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

requirements: $(READY)  ## compile the pinned requirements again
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

requirements-check: $(READY)  ## fail if the pinned requirements do not match their lists
	@scratch=$$(mktemp -d) && cp requirements*.in requirements*.txt $$scratch && \
	 uv=$$PWD/$(BIN)/uv && cd $$scratch && status=0; \
	 for name in requirements requirements-dev; do \
	   $$uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url $$name.in -o $$name.txt && \
	   diff -u $(CURDIR)/$$name.txt $$name.txt || { echo "$$name.txt is stale: run make requirements" >&2; status=1; }; \
	 done; rm -r $$scratch; exit $$status

N ?= 200
SEED ?= 1
KIND ?= normal
faults: $(READY)  ## test exactly-once on N=200 seeded schedules of faults; SEED, ONLY, UPLOADER=plain, see docs/faults.md
	@$(BIN)/python -m tests.faults --schedules $(N) --seed $(SEED) --kind $(KIND) \
	  $(foreach number,$(ONLY),--only $(number)) $(if $(UPLOADER),--beside $(UPLOADER)) $(if $(KEEP),--keep $(KEEP))

bench: $(READY)  ## measure validation, preparation, their memory, and parallel sending; takes some minutes
	@$(BIN)/python -m bench

BATCHES ?= 2000
bench-fleet: $(READY)  ## measure BATCHES=2000 small batches in a running Airflow, in packs and one per task
	@$(BIN)/python -m bench.fleet --batches $(BATCHES)

compose-test: $(READY)  ## run docker-compose.yml in a container engine, disturb it, restore it; takes 20 minutes or more
	@$(BIN)/python -m dev.compose_test

HELM ?= helm
CHART ?=
KUBERNETES_VALIDATE ?= $(BIN)/uvx kubernetes-validate@1.37.0
helm-test: $(READY)  ## check what the official Helm chart makes of deploy/helm-values.yaml; HELM, CHART (its folder)
	@$(BIN)/python -m tests.deployment.helm --helm "$(HELM)" $(if $(CHART),--chart "$(CHART)") \
	  --validate "$(KUBERNETES_VALIDATE)"

release: $(READY)  ## build the wheel of this commit, twice and equal, and the image; into dist/, see CONTRIBUTING.md
	@$(BIN)/python -m dev.release

clean:  ## remove what demo, up and tests have written, but not the virtual environment
	rm -rf .local .pytest_cache .mypy_cache .ruff_cache .hypothesis

# uv installs the pinned set, hashes checked, several times faster than pip does.
$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit("This project needs Python 3.11, 3.12 or 3.13; set PYTHON, for example: make PYTHON=python3.12 demo")'
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements-dev.txt)"
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements-dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
