# make demo   install and walk the embedded patient from MRI to plan
# make test   install and run every check that this machine can
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
export OMP_WAIT_POLICY ?= PASSIVE
export SPINDOSE_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: demo test lint bench install clean

demo: install
	$(BIN)/spindose demo $(OUT)

test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache build *.egg-info
