# Two commands do everything on a fresh machine with Python 3.11 to 3.13 and make:
#   make run    a small campaign, end to end, on the CPU; no server is needed
#   make test   the unit and workflow tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt
DEMO := data/.demo

.PHONY: run test integration cluster relocatable docs lint format generated constraints clean

run: $(VENV)/.installed $(DEMO)
	$(BIN)/protosonic run config/config.yaml

# Two files of tests at a time: most of a campaign in a test runs on one core.
test: $(VENV)/.tested
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# Slower tests against real servers, which they often wait for; .ci/run installs what they need.
integration: $(VENV)/.trained
	$(BIN)/pytest --numprocesses 3 --dist loadfile tests/integration

# Servers and clusters of this machine; .ci/run installs their packages.
cluster: $(VENV)/.clustered
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/cluster

# Python and all packages in one archive, for nodes that have none of them (docs/software.md).
relocatable: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[report,pack]'
	$(BIN)/protosonic environment pack protosonic-relocatable.tar.gz

# The documentation as a site, in build/docs/index.html.
docs: $(VENV)/.tested
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env docs build/docs

lint: $(VENV)/.trained
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/snakemake --snakefile workflow/Snakefile --configfile tests/workflow/lint.yaml --lint

format: $(VENV)/.tested
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt workflow rules

# The files that are made from the configuration model and from the pinned versions.
generated: $(VENV)/.installed
	$(BIN)/protosonic config default > config/config.yaml
	$(BIN)/protosonic config schema > config/schema.json
	$(BIN)/protosonic environment conda > envs/protosonic.yaml.part
	mv envs/protosonic.yaml.part envs/protosonic.yaml

constraints: $(VENV)/.tested
	(sed '/^[^#]/d' envs/constraints.txt; $(BIN)/pip list --format=freeze --exclude-editable | grep -v -E '^(pip|setuptools)==') > envs/constraints.txt.part
	mv envs/constraints.txt.part envs/constraints.txt

# With PyTorch, for training and for the types of its code, and with what drives a browser.
$(VENV)/.trained: $(VENV)/.tested
	$(PIP_INSTALL) --editable '.[report,test,test-browser,train]'
	touch $@

$(VENV)/.clustered: $(VENV)/.tested
	$(PIP_INSTALL) --editable '.[report,test,test-remote,slurm]'
	touch $@

clean:
	rm -rf $(VENV) data results work .snakemake

$(DEMO): | $(VENV)/.installed
	$(BIN)/protosonic simulate data --files 4 --events 2 --hits 3000
	touch $@

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml envs/constraints.txt | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[report]'
	touch $@

$(VENV)/.tested: pyproject.toml envs/constraints.txt | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[report,test]'
	touch $@ $(VENV)/.installed
