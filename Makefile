# Each target makes its own environment; a second call reuses it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: run test test-all lint format install bench docs parity audit-dependencies clean

run: $(VENV)/.installed
	$(BIN)/bench run

test: $(VENV)/.tested
	$(BIN)/python -m pytest -n 2 -m "not slow"

# Weights & Biases is large, and one slow test writes for it.
test-all: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[wandb]'
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.tested
	$(BIN)/python -m benchmarks

# The site of the pages, in build/site; a warning, such as a link to nothing, is an error.
docs: $(VENV)/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Asks the advisory service of PyPI, so it needs a network: by hand before a release, not in CI.
audit-dependencies: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip_audit --strict --requirement constraints.txt --no-deps --disable-pip

# hpsv2 pins packages that the tests cannot live with, so its side has an environment of its own.
parity: $(VENV)/.tested
	test -x $(VENV)-hpsv2/bin/python || $(PYTHON) -m venv $(VENV)-hpsv2
	$(VENV)-hpsv2/bin/python -m pip install --quiet --disable-pip-version-check hpsv2==1.2.0 einops
	$(BIN)/python .ci/hpsv2_parity.py make build/parity
	$(VENV)-hpsv2/bin/python .ci/hpsv2_parity.py check build/parity

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,tracking,sweeps]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images,test]'
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
