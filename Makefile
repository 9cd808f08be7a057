# make demo   install and walk the embedded patient from MRI to plan
# make test   install and run every check that this machine can
# make notebooks  run the scripts of notebooks/ and keep what they show beside them
# make bench  install, build the peers and run every benchmark; JSON lines last (half an hour)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PEER := benchmarks/peer/.venv
DICOMPYLER := benchmarks/peer/dicompyler/.venv
SYNTHESIS := benchmarks/peer/synthesis/.venv
FEDN := benchmarks/peer/fedn/.venv
OUT ?= demo
export OMP_WAIT_POLICY ?= PASSIVE
export SPINDOSE_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: demo test lint bench bench-peer fedn notebooks install clean

demo: install
	$(BIN)/spindose demo $(OUT)

test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install bench-peer
	$(BIN)/python -m benchmarks

notebooks: install
	$(BIN)/jupytext --to ipynb notebooks/*.py
	PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace notebooks/*.ipynb

bench-peer: $(PEER)/installed $(DICOMPYLER)/installed $(SYNTHESIS)/installed

# FEDn's server, for the test that sites learn by it; nodes there borrow what FEDn does not bring.
fedn: install $(FEDN)/installed

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(DICOMPYLER)/installed: benchmarks/peer/dicompyler/requirements.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(DICOMPYLER) || python3 -m venv $(DICOMPYLER)
	$(DICOMPYLER)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(SYNTHESIS)/installed: benchmarks/peer/synthesis/requirements.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(SYNTHESIS) || python3 -m venv $(SYNTHESIS)
	$(SYNTHESIS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(SYNTHESIS)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(FEDN)/installed: benchmarks/peer/fedn/requirements.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(FEDN) || python3 -m venv $(FEDN)
	$(FEDN)/bin/pip install --quiet --disable-pip-version-check -r $<
	printf '%s\n' $(CURDIR) $$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages) \
	  > $$(echo $(FEDN)/lib/python3*/site-packages)/spindose.pth
	touch $@

$(PEER)/installed: benchmarks/peer/requirements.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(PEER) || python3 -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peer/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(PEER) $(DICOMPYLER) $(SYNTHESIS) $(FEDN) demo .mypy_cache .pytest_cache .ruff_cache build *.egg-info
