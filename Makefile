# `make help` lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH := torch==2.13.0
# The package index serves torch with several GB of CUDA; this one serves it without. Where it cannot be
# reached pip goes on with what its own configuration offers.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
# Debian's python3 has no ensurepip without python3-venv, so the virtual environment borrows the outer pip.
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-deps --require-hashes

export BENTOML_DO_NOT_TRACK := true
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help install serve embed-dataset test tools bench lint token model model-info build docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(VENV)/prepare ## Install what `make serve` needs into .venv

serve: $(VENV)/prepare ## Prepare the model if need be, then serve on HOST:PORT (127.0.0.1:8000)
	@$(BIN)/python -m dev.serve

model: $(VENV)/prepare ## Prepare the model of MODEL_NAME (FORCE=1 to do it again)
	@$(BIN)/python download_model.py $(if $(FORCE),--force)

model-info: $(VENV)/prepare ## Show the prepared model's profile and verification report
	@$(BIN)/python download_model.py --info

token: $(VENV)/prepare ## Print a development token [USER_ID=uuid]
	@$(BIN)/python -m dev.token $(USER_ID)

build: $(VENV)/prepare model ## Build the Bento
	@$(BIN)/bentoml build

embed-dataset: model $(VENV)/bulk ## Embed files [ARGS="INPUT OUTPUT --id id ..."]
	@$(BIN)/python -m jobs.embed_dataset $(ARGS)

test: tools $(VENV)/dev ## Run the whole test suite
	@$(BIN)/python -m pytest

tools: # a real browser and a JavaScript client, for the tests; root on Debian gets what is missing
	@missing=; for tool in chromium curl nodejs npm; do \
	  command -v $${tool%js} > /dev/null || command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } || { \
	  echo "The tests drive a real browser and a JavaScript client. Missing here:$$missing"; \
	  echo "On Debian or Ubuntu: apt-get install$$missing"; exit 1; }

bench: $(VENV)/dev ## Run the benchmarks (about half an hour) and write benchmarks/results
	@$(BIN)/python -m benchmarks

lint: $(VENV)/dev ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy .

docs: $(VENV)/prepare ## Write the parts of the documents that are made from the code
	@$(BIN)/python -m dev.documents

lock: $(VENV)/dev ## Resolve the pinned dependencies anew
	@for group in "dev --extra prepare --extra bulk --extra dev" "prepare --extra prepare -c requirements/dev.txt" \
	  "bulk --extra bulk -c requirements/dev.txt" "run -c requirements/dev.txt"; do \
	  set -- $$group; name=$$1; shift; \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-package torch \
	    --custom-compile-command "make lock" pyproject.toml $$@ -o requirements/$$name.txt; \
	done

clean: ## Remove what the other targets made here
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/torch: | $(BIN)/python
	@echo "Installing torch without CUDA ..."
	@$(PIP) install --quiet --no-deps --retries 1 --timeout 20 --extra-index-url $(TORCH_INDEX) $(TORCH)
	@touch $@

$(VENV)/prepare $(VENV)/bulk $(VENV)/dev: $(VENV)/%: requirements/%.txt | $(VENV)/torch
	@echo "Installing $< ..."
	@$(INSTALL) -r $<
	@$(BIN)/python -c 'import torch' || { rm -f $(VENV)/torch; \
	  echo "This torch does not load here. Point TORCH_INDEX at an index with a CPU build of $(TORCH)."; exit 1; }
	@touch $@
