# `make help` lists what there is.
# The first Python that runs the project: pyenv puts commands of that name there which do not run.
PYTHON ?= $(eval PYTHON := $$(or $$(shell for one in python3.11 python3.12 python3.13 python3; do \
  ! $$$$one dev/python_version.py > /dev/null 2>&1 || { echo $$$$one; break; }; done),python3))$(PYTHON)
TORCH := torch==2.13.0
# The package index serves torch with several GB of CUDA; this one serves it without. Where it cannot be
# reached pip goes on with what its own configuration offers.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
SITE := .venv-site
# Debian's python3 has no ensurepip without python3-venv, so the virtual environment borrows the outer pip.
PIP = $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
INSTALL = $(PIP) install --quiet --no-deps --require-hashes

VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' settings.py)
# Looked for once, and only when an image is made: the first that works, which a docker without its daemon does not.
ENGINE ?= $(eval ENGINE := $$(shell for one in docker podman buildah; do \
  ! $$$$one info > /dev/null 2>&1 || { echo $$$$one; break; }; done))$(ENGINE)
MODEL ?= volume
MACHINE ?= $(shell uname -m)
BUNDLE ?= build/embedding-api-$(VERSION)-$(MACHINE).tar
DIRECTORY ?= $(HOME)/.local/share
# From /: elsewhere BentoML 1.4 refuses its own copy of the Dockerfile template (bentoml/BentoML#5566).
# podman and buildah leave HEALTHCHECK out of their own image format; buildah makes one layer unless told.
containerize = cd / && $(abspath $(BIN))/bentoml containerize embedding-api:latest --backend $(ENGINE) \
  $(if $(filter docker,$(ENGINE)),,--opt format=docker) $(if $(filter buildah,$(ENGINE)),--opt layers) \
  --opt build-arg=MODEL=$(MODEL) --opt label=org.opencontainers.image.version=$(VERSION) $(OPTIONS)

export BENTOML_DO_NOT_TRACK := true

.PHONY: help install native native-linux serve embed-dataset test tools bench drill hostile soak lint token model model-info build docs site lock clean \
  faketime emulator arm-model engine image image-arm64 test-image test-arm64 test-compose bundle install-bundle test-bundle test-pythons sbom audit

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

install: $(VENV)/prepare ## Install what `make serve` needs into .venv

native: $(VENV)/prepare ## Compile the engine for this machine, where it changed [CXX=clang++]
	@$(BIN)/python -m embedder.native.build

native-linux: $(VENV)/prepare ## The same for both architectures that images and bundles are made for
	@$(BIN)/python -m embedder.native.build --target linux-x86_64 --target linux-aarch64

serve: native ## Prepare the model if need be, then serve on HOST:PORT (127.0.0.1:8000)
	@$(BIN)/python -m dev.serve

model: native ## Prepare the model of MODEL_NAME (FORCE=1 to do it again)
	@$(BIN)/python download_model.py $(if $(FORCE),--force)

model-info: $(VENV)/prepare ## Show the prepared model's profile and verification report
	@$(BIN)/python download_model.py --info

token: $(VENV)/prepare ## Print a development token [USER_ID=uuid]
	@$(BIN)/python -m dev.token $(USER_ID)

build: native-linux model ## Build the Bento
	@tag=$$($(BIN)/bentoml build --output tag) && \
	  echo "Built $${tag#__tag__:}. Serve it: $(BIN)/bentoml serve embedding-api:latest"

embed-dataset: model $(VENV)/bulk ## Embed files [ARGS="INPUT OUTPUT --id id ..."]
	@$(BIN)/python -m jobs.embed_dataset $(ARGS)

engine: # fails before the Bento is built
	@: $(or $(ENGINE),$(error No docker, podman or buildah works here: install one, start its daemon, or name it in ENGINE))

image: engine build ## Make the container image, without weights (MODEL=baked: with them) [ENGINE=docker|podman|buildah]
	@$(containerize) -t embedding-api:$(VERSION) -t embedding-api:latest

image-arm64: engine build ## The same for ARM64, on any machine
	@$(containerize) --opt platform=linux/arm64 -t embedding-api:$(VERSION)-arm64

test-image: $(VENV)/dev ## Build the image with no registry, start it, check its vectors (root on Debian 12)
	@deploy/image/lab.sh $$(dpkg --print-architecture) $(abspath $(BIN))/python -m pytest -s deploy/image

test-arm64: $(VENV)/dev ## The same for ARM64, on an emulated Neoverse N1
	@deploy/image/lab.sh arm64 $(abspath $(BIN))/python -m pytest -s deploy/image

test-compose: $(VENV)/dev ## Bring deploy/docker-compose.yml up with podman-compose and no registry (root on Debian 12)
	@deploy/image/lab.sh $$(dpkg --print-architecture) $(abspath $(BIN))/python -m pytest -s deploy/test_compose_up.py

bundle: build ## One tarball for a machine without a network [MACHINE=aarch64] [BUNDLE=file]
	@$(BIN)/python -m dev.bundle $(BUNDLE) $(MACHINE)
	@echo "$(BUNDLE)"

install-bundle: ## Install BUNDLE with no network, and serve it with the .env of here or there [DIRECTORY=~/.local/share]
	@mkdir -p $(DIRECTORY) && tar xf $(BUNDLE) -C $(DIRECTORY)
	@[ -e $(DIRECTORY)/embedding-api/.env ] || [ ! -e .env ] || cp -p .env $(DIRECTORY)/embedding-api
	@cd $(DIRECTORY)/embedding-api && ./install.sh && exec ./serve.sh

test-bundle: $(VENV)/dev ## Make a bundle; install and serve it in a network namespace (root)
	@$(BIN)/python -m pytest deploy/test_bundle.py

test-pythons: native $(VENV)/dev ## Serve with each other supported Python of this machine; the vectors are the same
	@$(BIN)/python -m pytest deploy/test_pythons.py

sbom: $(VENV)/dev ## Write the bill of materials and the licences of what is shipped into build/
	@$(BIN)/python -m dev.sbom build

audit: $(VENV)/dev ## Ask the package index for known vulnerabilities of what is shipped
	@$(BIN)/python -m dev.audit

test: tools native $(VENV)/dev ## Run the whole test suite
	@$(BIN)/python -m pytest

# What tests and drills drive: a browser, a JavaScript client, proxies, Prometheus, a clock that can be set, a compiler
# with sanitizers. A program's packages stand behind it where they have other names. Root on Debian gets what is
# missing; Debian starts caddy, nginx and prometheus then, and what was missing is stopped again.
tools: PROGRAMS = caddy chromium clang-19=clang-19+libclang-rt-19-dev curl docker-compose nginx node=nodejs npm pgbouncer prometheus \
  qemu-aarch64-static=qemu-user-static
faketime: PROGRAMS = faketime
emulator: PROGRAMS = llvm-mca-19=llvm-19 qemu-aarch64-static=qemu-user-static
tools faketime emulator:
	@PATH="$$PATH:/usr/sbin"; missing=; for tool in $(PROGRAMS); do \
	  command -v $${tool%%=*} > /dev/null || missing="$$missing $$(echo $${tool#*=} | tr + ' ')"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } || { \
	  echo "Real programs are driven here. Missing:$$missing"; \
	  echo "On Debian or Ubuntu: apt-get install$$missing"; exit 1; }; \
	for tool in $$missing; do case $$tool in caddy|nginx|pgbouncer|prometheus) \
	  [ ! -d /run/systemd/system ] || systemctl --quiet disable --now $$tool;; esac; done

bench: native $(VENV)/dev $(BENCH)/peers ## Run the benchmarks (about 75 minutes) and write benchmarks/results
	@$(BIN)/python -m benchmarks

arm-model: emulator $(VENV)/dev ## Work out the engine's speed on a Neoverse N1, without one
	@$(BIN)/python -m dev.arm_model

drill: faketime native $(VENV)/dev ## Make everything fail that can (about 8 minutes, root on Linux) and write deploy/DRILLS.md [DRILLS=names]
	@$(BIN)/python -m drills $(DRILLS)

hostile: native $(VENV)/dev ## Send the worst requests at full speed (about 8 minutes) and write docs/hostile.md [ROWS=names]
	@$(BIN)/python -m hostile $(ROWS)

soak: native $(VENV)/dev ## Four fifths of the load it can take for MINUTES=20; fails when memory, files or series grow
	@$(BIN)/python -m drills.soak $(or $(MINUTES),20)

lint: $(VENV)/dev ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy .

docs: $(VENV)/prepare ## Write the parts of the documents that are made from the code
	@$(BIN)/python -m dev.documents

# Links between documents work in the repository, so the site is built from a copy of the same places.
site: $(SITE)/ready ## Build the documents into build/site; fails on a broken link
	@rm -rf build/pages && mkdir -p build/pages
	@git ls-files -co --exclude-standard -z '*.md' LICENSE docs deploy examples benchmarks/results | xargs -0 cp --parents -t build/pages
	@$(SITE)/bin/zensical build --strict --clean
	@echo build/site/index.html

lock: $(VENV)/dev ## Resolve the pinned dependencies again
	@for group in "dev --extra prepare --extra bulk --extra dev" "prepare --extra prepare -c requirements/dev.txt" \
	  "bulk --extra bulk -c requirements/dev.txt" "run -c requirements/dev.txt"; do \
	  set -- $$group; name=$$1; shift; \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-package torch \
	    --custom-compile-command "make lock" pyproject.toml $$@ -o requirements/$$name.txt; \
	done
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-package torch \
	  --custom-compile-command "make lock" --group bench -o requirements/bench.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" --group site -o requirements/site.txt

clean: ## Remove what the other targets made here
	rm -rf $(VENV) $(BENCH) $(SITE) build embedder/native/lib .pytest_cache .mypy_cache .ruff_cache .hypothesis

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
	@$(BIN)/python -c 'import torch' || { rm -f $(VENV)/torch; \
	  echo "This torch does not load here. Point TORCH_INDEX at an index with a CPU build of $(TORCH)."; exit 1; }
	@touch $@

# The engines that ours is compared with. There is no wheel of llama.cpp: a C++ compiler builds it in five minutes.
$(BENCH)/peers: PIP = $(PYTHON) -m pip --python $(BENCH)/bin/python --disable-pip-version-check
$(BENCH)/peers: INSTALL = $(PIP) install --quiet --no-deps --require-hashes
$(BENCH)/peers: requirements/bench.txt
	@echo "Installing $< ..." >&2
	@$(PYTHON) -m venv --without-pip $(BENCH)
	@$(PIP) install --quiet --no-deps --retries 1 --timeout 20 --extra-index-url $(TORCH_INDEX) $(TORCH)
	@$(INSTALL) -r $<
	@touch $@

$(SITE)/ready: PIP = $(PYTHON) -m pip --python $(SITE)/bin/python --disable-pip-version-check
$(SITE)/ready: requirements/site.txt
	@echo "Installing $< ..." >&2
	@$(PYTHON) -m venv --without-pip $(SITE)
	@$(PIP) install --quiet --no-deps --require-hashes -r $<
	@touch $@
