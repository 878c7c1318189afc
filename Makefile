# `make demo` and `make test` are all that a new machine needs; both set the environment up first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip --disable-pip-version-check
DATA ?= ../shared/data/train
MINUTES ?= 60
DEMO_MINUTES ?= 5
PROCESSES ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo train-demo test check bench clean weights-%

help: ## list these targets
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 26

setup: $(VENV)/.ready ## make .venv with the package and its tools

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "restore needs Python 3.10 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --editable '.[dev]'
	touch $@

demo: setup ## restore sample photographs with the shipped weights, and compare them
	$(BIN)/python scripts/demo.py --out demo

train-demo: setup ## train for five minutes from random weights, and score the result
	$(BIN)/python scripts/train_demo.py --out runs/train-demo --data $(DATA) --minutes $(DEMO_MINUTES)

test: setup ## run the tests
	$(BIN)/python -m pytest

check: setup ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## time layers, networks, folders, memory and training, beside published methods
	$(BIN)/python scripts/bench_startup.py
	$(BIN)/python scripts/bench_layers.py
	$(BIN)/python scripts/bench_inference.py
	$(BIN)/python scripts/bench_denoise.py
	$(BIN)/python scripts/bench_deblur.py
	$(BIN)/python scripts/bench_folder.py
	$(BIN)/python scripts/bench_memory.py
	$(BIN)/python scripts/bench_train.py
	$(BIN)/python scripts/bench_score.py
	$(BIN)/python scripts/bench_waiting.py

RUN ?= runs/$*
weights-deblur weights-deblur-fast: FRAMES ?= ../shared/data/frames/gopro240
weights-denoise-best: INIT ?= denoise
weights-denoise-fast: SETTINGS ?= loss.kind=psnr loss.eps=4e-3 optimiser.clip_norm=300 optimiser.lr=0.005 optimiser.adamw_lr=5e-4 \
	schedule.warmup=0.01 schedule.decay=0.92 patches=[{start=0.0,size=192,batch_size=2}]
weights-denoise-best: PUBLISH ?= --ensemble 2
weights-deblur: PUBLISH ?= --ensemble 4
weights-%: setup ## train the shipped weights further, MINUTES in all: make weights-denoise-fast DATA=folder MINUTES=120 RUN=runs/new
	$(BIN)/restore train $* $(DATA) --out $(RUN) --max-minutes $(MINUTES) --processes $(PROCESSES) --resume \
		$(foreach setting,$(SETTINGS),--set '$(setting)') $(addprefix --frames ,$(FRAMES)) $(addprefix --init ,$(if $(wildcard weights/$*.safetensors),$*,$(INIT)))
	$(BIN)/python scripts/publish_weights.py $(RUN) --name $* $(PUBLISH)

clean: ## remove what the targets made; training runs stay
	rm -rf $(VENV) build demo dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
