# Two commands do everything, set-up included: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

LANE ?= ../lane

.PHONY: demo docs test test-slow check format audit clean lane lane-pause lane-status lane-results

demo: $(READY)
	rm -rf build/demo
	$(BIN)/allukan demo --out build/demo

# the pages as a site, build/docs/index.html, with every tutorial executed
docs: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow"  # a thread for each of the two, or they wait for each other

# torch's kernels differ between CPUs: the fast tests that compute must hold on those of every kind of CPU, and with several threads;
# those of Triton compute in NumPy
COMPUTING := $(addprefix tests/,ops nn models costs scores training inference)
test-slow: $(READY) $(VENV)/nnunet/.ready $(VENV)/app/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow
	ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow or kernels" --ignore-glob="*/test_triton*" $(COMPUTING)
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2 $(BIN)/python -m pytest -q -m "not slow or kernels" --ignore-glob="*/test_triton*" tests/ops tests/nn

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# known vulnerabilities of the locked packages, by PyPI's database; --strict: a package that is not found there is an error
audit: $(VENV)/audit/bin/pip-audit
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

$(VENV)/audit/bin/pip-audit: $(READY)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit

# long studies beside other work, outside the repository: see CONTRIBUTING.md
lane: $(READY)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m benchmarks.lane start $(LANE)

lane-pause lane-status lane-results: $(READY)
	$(BIN)/python -m benchmarks.lane $(@:lane-%=%) $(LANE)

# torch goes first: where a local build of it exists, the rest must not replace it
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "allukan needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# for the tests of nnU-Net's networks, which need torch only; its metadata asks for torchvision, which has no CPU build beside this torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps dynamic-network-architectures==0.4.4
	touch $@

# for their tests, apart from all else, so that no other test sees their packages
$(VENV)/nnunet/.ready: tests/integrations/nnunet_packages.txt $(READY)
$(VENV)/app/.ready: tests/app/packages.txt $(READY)
$(VENV)/nnunet/.ready $(VENV)/app/.ready:
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) -r $<
	touch $@

clean:
	rm -rf $(VENV) build
