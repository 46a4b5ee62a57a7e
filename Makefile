# `make help` lists the targets.
# The first of these commands that runs a supported Python: those of pyenv may exist and not run.
PYTHON ?= $(eval PYTHON := $$(or $$(shell for one in python3.11 python3.12 python3.13 python3; do \
  ! $$$$one dev/python_version.py > /dev/null 2>&1 || { echo $$$$one; break; }; done),python3))$(PYTHON)
TORCH := torch==2.13.0
# PyPI's torch requires several GB of CUDA packages; this index has torch without CUDA. If it cannot be
# reached, pip uses the indexes of its own configuration.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
SITE := .venv-site
CLIENTS := .venv-clients
COMPOSE := build/compose/usr/libexec/docker/cli-plugins/docker-compose
# Debian's python3 has no ensurepip without python3-venv, so the pip outside the virtual environment is used.
PIP = $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
INSTALL = $(PIP) install --quiet --no-deps --require-hashes

VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' settings.py)
# The first container engine that works (docker needs its daemon). Searched once, and only to make an image.
ENGINE ?= $(eval ENGINE := $$(shell for one in docker podman buildah; do \
  ! $$$$one info > /dev/null 2>&1 || { echo $$$$one; break; }; done))$(ENGINE)
MODEL ?= volume
MACHINE ?= $(shell uname -m)
BUNDLE ?= build/embedding-api-$(VERSION)-$(MACHINE).tar
DIRECTORY ?= $(HOME)/.local/share
# Run in /, since elsewhere BentoML 1.4 refuses its own copy of the Dockerfile template (bentoml/BentoML#5566).
# The default image format of podman and buildah has no HEALTHCHECK, and buildah makes one layer by default.
containerize = cd / && $(abspath $(BIN))/bentoml containerize embedding-api:latest --backend $(ENGINE) \
  $(if $(filter docker,$(ENGINE)),,--opt format=docker) $(if $(filter buildah,$(ENGINE)),--opt layers) \
  --opt build-arg=MODEL=$(MODEL) --opt label=org.opencontainers.image.version=$(VERSION) $(OPTIONS)

export BENTOML_DO_NOT_TRACK := true

.PHONY: help install native native-linux serve embed-dataset embed-table test test-fast tools bench drill hostile soak \
  clients lint token service-key model model-info mteb build docs site lock clean faketime emulator arm-model engine \
  image image-arm64 test-image test-arm64 test-compose test-vm bundle install-bundle test-bundle test-pythons sbom audit \
  playground-picture

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

install: $(VENV)/prepare ## Install what `make serve` needs into .venv

native: $(VENV)/prepare ## Compile the engine for this machine, if it changed [CXX=clang++]
	@$(BIN)/python -m embedder.native.build

native-linux: $(VENV)/prepare ## Compile the engine for both architectures of images and bundles
	@$(BIN)/python -m embedder.native.build --target linux-x86_64 --target linux-aarch64

serve: native ## Prepare the model if necessary, then serve on HOST:PORT (127.0.0.1:8000)
	@$(BIN)/python -m dev.serve

model: native ## Prepare the model of MODEL_NAME (FORCE=1: again)
	@$(BIN)/python download_model.py $(if $(FORCE),--force)

model-info: $(VENV)/prepare ## Show the profile and the verification report of the prepared model
	@$(BIN)/python download_model.py --info

token: $(VENV)/prepare ## Print a development token [USER_ID=uuid]
	@$(BIN)/python -m dev.token $(USER_ID)

service-key: $(VENV)/prepare ## Print a new key for a machine, and the line to store [NAME=indexer]
	@$(BIN)/python -m auth.new_service_key $(NAME)

build: native-linux model ## Build the Bento
	@tag=$$($(BIN)/bentoml build --output tag) && \
	  echo "Built $${tag#__tag__:}. Serve it: $(BIN)/bentoml serve embedding-api:latest"

embed-dataset: model $(VENV)/bulk ## Embed files [ARGS="INPUT OUTPUT --id id ..."]
	@$(BIN)/python -m jobs.embed_dataset $(ARGS)

NO_ENGINE = No docker, podman or buildah works here: install one, start its daemon, or name it in ENGINE
embed-table: model $(VENV)/bulk ## Keep a column of vectors filled [ARGS="TABLE --setup --text body"]
	@$(BIN)/python -m jobs.embed_table $(ARGS)

engine: # fails before the Bento is built
	@: $(or $(ENGINE),$(error $(NO_ENGINE)))

image: engine build ## Make the image without weights (MODEL=baked: with) [ENGINE=docker|podman|buildah]
	@$(containerize) -t embedding-api:$(VERSION) -t embedding-api:latest

image-arm64: engine build ## Make the image for ARM64, on any machine
	@$(containerize) --opt platform=linux/arm64 -t embedding-api:$(VERSION)-arm64

test-image: $(VENV)/dev ## Build the image without a registry, start it, check its vectors (root on Debian 12)
	@deploy/image/lab.sh $$(dpkg --print-architecture) $(abspath $(BIN))/python -m pytest -s deploy/image

test-arm64: $(VENV)/dev ## Test the image for ARM64 on an emulated Neoverse N1 (root on Debian 12)
	@deploy/image/lab.sh arm64 $(abspath $(BIN))/python -m pytest -s deploy/image

test-compose: $(VENV)/dev ## Run docker-compose.yml with Docker (root on Debian 12, x86-64)
	@deploy/compose/lab.sh $(abspath $(BIN))/python -m pytest -s deploy/compose

test-vm: $(VENV)/dev ## Run docs/oracle.md in an emulated ARM64 machine (root on Debian 12)
	@deploy/vm/lab.sh $(abspath $(BIN))/python -m pytest -s deploy/vm

bundle: build ## Make one tarball for a machine without a network [MACHINE=aarch64] [BUNDLE=file]
	@$(BIN)/python -m dev.bundle $(BUNDLE) $(MACHINE)
	@echo "$(BUNDLE)"

install-bundle: ## Install BUNDLE without a network, and serve it [DIRECTORY=~/.local/share]
	@mkdir -p $(DIRECTORY) && tar xf $(BUNDLE) -C $(DIRECTORY)
	@[ -e $(DIRECTORY)/embedding-api/.env ] || [ ! -e .env ] || cp -p .env $(DIRECTORY)/embedding-api
	@cd $(DIRECTORY)/embedding-api && ./install.sh && exec ./serve.sh

test-bundle: $(VENV)/dev ## Make a bundle, and serve it in a network namespace (root)
	@$(BIN)/python -m pytest deploy/test_bundle.py

test-pythons: native $(VENV)/dev ## Check that each supported Python of this machine gives the same vectors
	@$(BIN)/python -m pytest deploy/test_pythons.py

sbom: $(VENV)/dev ## Write the bill of materials and the licences to build/
	@$(BIN)/python -m dev.sbom build

audit: $(VENV)/dev ## Ask the package index for known vulnerabilities of the shipped packages
	@$(BIN)/python -m dev.audit

# The order of tests/conftest.py is kept: pytest-xdist alone would begin with the files that have most tests.
JOBS ?= 2
test: tools $(COMPOSE) native clients $(VENV)/dev ## Run the whole test suite [JOBS=processes]
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not alone"
	@$(BIN)/python -m pytest -m alone

clients: $(CLIENTS)/ready ## Install the clients of other APIs that the tests call

test-fast: native $(VENV)/dev ## Run the tests of api/, auth/, batches/, gate/ and settings without servers and properties (a minute)
	@$(BIN)/python -m pytest -m "not server and not hypothesis" tests/api tests/auth tests/batches tests/gate \
	  $(filter-out tests/test_sbom.py,$(wildcard tests/test_*.py))

# The programs that tests and drills use: a browser, a JavaScript client, proxies, Prometheus, a fake clock, a compiler
# with sanitizers. PROGRAM=PACKAGE+PACKAGE where packages have other names. As root on Debian, missing programs are
# installed. Debian then starts services such as caddy, and those that were missing are stopped again.
tools: PROGRAMS = caddy chromium clang-19=clang-19+libclang-rt-19-dev curl docker-compose nginx node=nodejs npm \
  pgbouncer prometheus qemu-aarch64-static=qemu-user-static
faketime: PROGRAMS = faketime
emulator: PROGRAMS = llvm-mca-19=llvm-19 qemu-aarch64-static=qemu-user-static
tools faketime emulator:
	@PATH="$$PATH:/usr/sbin"; missing=; for tool in $(PROGRAMS); do \
	  command -v $${tool%%=*} > /dev/null || missing="$$missing $$(echo $${tool#*=} | tr + ' ')"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends $$missing; } || { \
	  echo "Programs are missing:$$missing"; \
	  echo "On Debian or Ubuntu: apt-get install$$missing"; exit 1; }; \
	for tool in $$missing; do case $$tool in caddy|nginx|pgbouncer|prometheus) \
	  [ ! -d /run/systemd/system ] || systemctl --quiet disable --now $$tool;; esac; done

# Debian 12 has docker-compose 1. This is version 2, which the tests of docker-compose.yml use as well: that of this
# machine's Docker, or else that of Debian 13.
$(COMPOSE): PATH_OF = {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}
$(COMPOSE):
	@mkdir -p $(@D)
	@found=$$(docker info -f '$(PATH_OF)' 2> /dev/null); if [ -n "$$found" ]; then ln -s "$$found" $@; else \
	  bash -euc '. deploy/image/debian.sh; unpack trixie "$(abspath build/compose)" docker-compose'; fi

bench: native $(VENV)/dev $(BENCH)/peers ## Run the benchmarks (about 75 minutes) and write benchmarks/results
	@$(BIN)/python -m benchmarks

mteb: native $(VENV)/dev ## Score the model on tasks of MTEB, beside sentence-transformers [ARGS="--tasks short"]
	@$(BIN)/python -m benchmarks.mteb $(ARGS)

arm-model: emulator $(VENV)/dev ## Estimate the engine's speed on a Neoverse N1, by emulation
	@$(BIN)/python -m dev.arm_model

drill: faketime native $(VENV)/dev ## Inject faults (8 minutes, root on Linux) and write deploy/DRILLS.md [DRILLS=names]
	@$(BIN)/python -m drills $(DRILLS)

hostile: native $(VENV)/dev ## Send the worst requests (8 minutes) and write docs/hostile.md [ROWS=names]
	@$(BIN)/python -m hostile $(ROWS)

soak: native $(VENV)/dev ## Load the service for MINUTES=20; fails when memory, files or metric series grow
	@$(BIN)/python -m drills.soak $(or $(MINUTES),20)

lint: $(VENV)/dev ## Run ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy .

playground-picture: $(VENV)/dev ## Draw docs/playground.png, from the service that `make serve` runs [URL=...]
	@$(BIN)/python -m dev.playground_picture $(or $(URL),http://127.0.0.1:8000) docs/playground.png

docs: $(VENV)/prepare ## Write the generated parts of the documents
	@$(BIN)/python -m dev.documents

# Links between documents are relative to the repository, so the site is built from a copy with the same paths.
site: $(SITE)/ready ## Build the documents into build/site; fails on a broken link
	@rm -rf build/pages && mkdir -p build/pages
	@git ls-files -co --exclude-standard -z '*.md' LICENSE docs deploy examples benchmarks/results | xargs -0 cp --parents -t build/pages
	@$(SITE)/bin/zensical build --strict --clean
	@echo build/site/index.html

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
  --no-emit-package torch --custom-compile-command "make lock"
lock: $(VENV)/dev ## Resolve the pinned dependencies again
	@for group in "dev --extra prepare --extra bulk --extra dev" "prepare --extra prepare -c requirements/dev.txt" \
	  "bulk --extra bulk -c requirements/dev.txt" "run -c requirements/dev.txt"; do \
	  set -- $$group; name=$$1; shift; \
	  $(COMPILE) pyproject.toml $$@ -o requirements/$$name.txt; \
	done
	@{ echo "--extra-index-url https://download.pytorch.org/whl/cpu"; $(BIN)/uv pip compile --quiet --universal \
	  --python-version 3.11 --no-annotate --custom-compile-command "make lock" \
	  pyproject.toml --extra prepare -c requirements/dev.txt; } > requirements.txt
	@$(COMPILE) --group bench -o requirements/bench.txt
	@$(COMPILE) --group clients -o requirements/clients.txt
	@$(COMPILE) --group site -o requirements/site.txt

clean: ## Remove what the other targets have made
	rm -rf $(VENV) $(BENCH) $(CLIENTS) $(SITE) build embedder/native/lib .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) dev/python_version.py
	@echo "Making $(VENV): about 2 GB of packages, a few minutes ..." >&2
	@$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/torch: | $(BIN)/python
	@for one in $(PYTHON) $(BIN)/python; do $$one dev/python_version.py || exit 1; done
	@echo "Installing torch without CUDA ..." >&2
	@$(PIP) install --quiet --no-deps --retries 1 --timeout 20 --extra-index-url $(TORCH_INDEX) $(TORCH)
	@touch $@

$(VENV)/prepare $(VENV)/bulk $(VENV)/dev: $(VENV)/%: requirements/%.txt | $(VENV)/torch
	@echo "Installing $< ..." >&2
	@$(INSTALL) -r $<
	@$(BIN)/python -c 'import torch' || { rm -f $(VENV)/torch; $(PIP) uninstall --quiet --yes torch; \
	  echo "This torch could not be imported, and was removed. Probably pip could not reach the index of builds for CPUs."; \
	  echo "Set TORCH_INDEX to an index with a CPU build of $(TORCH), and try again."; exit 1; }
	@touch $@

# The engines of the benchmarks. llama.cpp has no wheel: a C++ compiler builds it in five minutes.
$(BENCH)/peers: PIP = $(PYTHON) -m pip --python $(BENCH)/bin/python --disable-pip-version-check
$(BENCH)/peers: INSTALL = $(PIP) install --quiet --no-deps --require-hashes
$(BENCH)/peers: requirements/bench.txt
	@echo "Installing $< ..." >&2
	@$(PYTHON) -m venv --without-pip $(BENCH)
	@$(PIP) install --quiet --no-deps --retries 1 --timeout 20 --extra-index-url $(TORCH_INDEX) $(TORCH)
	@$(INSTALL) -r $<
	@touch $@

$(CLIENTS)/ready $(SITE)/ready: PIP = $(PYTHON) -m pip --python $(@D)/bin/python --disable-pip-version-check
$(CLIENTS)/ready: requirements/clients.txt
$(SITE)/ready: requirements/site.txt
$(CLIENTS)/ready $(SITE)/ready:
	@echo "Installing $< ..." >&2
	@$(PYTHON) -m venv --without-pip $(@D)
	@$(INSTALL) -r $<
	@touch $@
