# The image of the service, and that which prepares its model.
#   docker build -t embedding-api .                                  the service, without weights
#   docker build --target prepare -t embedding-api-prepare .         what fills its model store
#   --build-arg MODEL=baked       a service with the starter model in a layer
# `bentoml containerize` makes the same service from this file. It reads it as a Jinja template, for which all
# up to the stage `bento` is a comment: there the Bento exists already, and is the build context.
#
# BuildKit builds a service for another architecture without emulation: all that runs here runs on $BUILDPLATFORM. Older
# buildah does not set it, and emulates.

# {#
# --- what preparing a model needs ---------------------------------------------------------------------------------
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

FROM docker.io/library/python:3.11-slim AS prepare-packages
ARG TORCH
ARG TORCH_INDEX
COPY requirements/prepare.txt deploy/image/prepare_packages.sh /
RUN sh /prepare_packages.sh

# --- the Bento: the engine of both architectures, the starter model, `bentoml build` --------------------------------
# On a machine that builds for itself, these lines are those above: BuildKit runs them once.
FROM --platform=$BUILDPLATFORM docker.io/library/python:3.11-slim AS builder
ARG TORCH
ARG TORCH_INDEX
COPY requirements/prepare.txt deploy/image/prepare_packages.sh /
RUN sh /prepare_packages.sh
RUN sed -n '/^ziglang==/,/^    # via/p' /prepare.txt > /compiler.txt \
 && pip install --quiet --no-cache-dir --no-compile --no-deps --require-hashes --target /compiler -r /compiler.txt
ENV PYTHONPATH=/packages:/compiler PYTHONDONTWRITEBYTECODE=1 BENTOML_HOME=/bentoml BENTOML_DO_NOT_TRACK=true
WORKDIR /project
COPY embedder/__init__.py embedder/
COPY embedder/native embedder/native
RUN python -m embedder.native.build --target linux-x86_64 --target linux-aarch64 && rm -r build
# Before the rest of the code, whose changes do not prepare the model again.
COPY embedder embedder
COPY download_model.py environment.py model_settings.py setting_types.py settings.py ./
RUN python download_model.py
COPY . .
RUN python -m bentoml build \
 && mv /bentoml/bentos/embedding-api/*/ /bento \
 && mv /bentoml/models /bento

# --- the image that prepares a model into a volume ------------------------------------------------------------------
FROM prepare-packages AS prepare
ENV PYTHONPATH=/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BENTOML_DO_NOT_TRACK=true BENTOML_HOME=/bentoml \
    HOME=/tmp HF_HOME=/downloads/huggingface HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_DISABLE_TELEMETRY=1 \
    TMPDIR=/downloads/tmp TQDM_MININTERVAL=10
RUN mkdir -p /bentoml/bentos /bentoml/models /bentoml/envs /bentoml/tmp /downloads \
 && chown -R 10001:10001 /bentoml /downloads
WORKDIR /project
COPY --from=builder /project /project
RUN chmod -R a+rX /project
USER 10001:10001
ENTRYPOINT ["python", "-m", "container.prepare"]

FROM scratch AS bento
COPY --from=builder /bento /
# #}{{ "\nFROM scratch AS bento\nCOPY . /" }}

# --- the service ----------------------------------------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM docker.io/library/python:3.11-slim AS packages
ARG TARGETARCH
COPY --from=bento /src/requirements/run.txt /
RUN case "${TARGETARCH:-$(uname -m)}" in amd64|x86_64) machine=x86_64;; arm64|aarch64) machine=aarch64;; esac \
 && platforms="--platform manylinux_2_28_$machine --platform manylinux_2_27_$machine --platform manylinux2014_$machine" \
 && pip install --quiet --no-cache-dir --no-compile --no-deps --require-hashes --only-binary=:all: $platforms \
    --python-version 3.11 --target /packages -r /run.txt
RUN cd /packages \
 && rm -r bin \
 && find . -type d \( -name tests -o -name test -o -name include \) -prune -exec rm -r {} + \
 && find . -name '*.pyi' -delete \
 && python -m compileall -q --invalidation-mode unchecked-hash . \
 && mkdir -p /bentoml/bentos /bentoml/envs /bentoml/tmp /owned

# Whoever built the Bento may have had a umask that hides files from user 10001.
FROM packages AS model
ARG MODEL=volume
COPY --from=bento /models /models
RUN case "$MODEL" in baked) chmod -R a+rX /models;; volume) rm -r /models/*;; *) echo "MODEL is volume or baked, not $MODEL"; exit 1;; esac

# The Bento has the engine of both architectures.
FROM packages AS code
ARG TARGETARCH
COPY --from=bento /src /bento/src
COPY --from=bento /bento.yaml /bento/
RUN case "${TARGETARCH:-$(uname -m)}" in amd64|x86_64) other=aarch64;; arm64|aarch64) other=x86_64;; esac \
 && rm -rf /bento/src/embedder/native/lib/linux-$other \
 && chmod -R a+rX /bento

FROM docker.io/library/python:3.11-slim
LABEL org.opencontainers.image.title="embedding-api" \
      org.opencontainers.image.description="Self-hosted text embeddings for Supabase users on small ARM machines" \
      org.opencontainers.image.licenses="MIT"
ENV PYTHONPATH=/packages:/bento/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    BENTOML_HOME=/bentoml BENTOML_CONTAINERIZED=true BENTOML_DO_NOT_TRACK=true
COPY --from=packages /bentoml /bentoml
# A new volume takes its owner from the directory that it is mounted on.
COPY --from=packages --chown=10001:10001 /owned /bentoml/models
COPY --from=packages --chown=10001:10001 /owned /development
COPY --from=packages --chown=10001:10001 /owned /batches
COPY --from=packages /packages /packages
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h; \
c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "container.serve", "/bento", "--host", "0.0.0.0", "--port", "8000", \
            "--timeout-keep-alive", "75"]

COPY --from=model /models /bento/models
COPY --from=code /bento /bento
