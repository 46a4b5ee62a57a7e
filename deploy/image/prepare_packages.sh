#!/bin/sh
# Install what preparing a model needs into /packages: torch without CUDA, and requirements/prepare.txt but for the
# compiler. Two stages of the Dockerfile run this: for the machine that builds, and for the one that the image is for.
set -eu
install="pip install --quiet --no-cache-dir --no-compile --no-deps --target /packages"
# If TORCH_INDEX cannot be reached, pip takes torch from its own index, where it may need CUDA.
$install --retries 1 --timeout 60 --extra-index-url "$TORCH_INDEX" "torch==$TORCH"
if [ -e /packages/torch/lib/libtorch_cuda.so ]; then
  echo "error: torch $TORCH without CUDA could not be fetched from $TORCH_INDEX; --build-arg TORCH_INDEX names another" >&2
  exit 1
fi
sed '/^ziglang==/,/^    # via/d' /prepare.txt > /without-compiler.txt
$install --require-hashes --only-binary=:all: -r /without-compiler.txt
cd /packages
rm -r bin
find . -type d \( -name tests -o -name test -o -name include \) -prune -exec rm -r {} +
find . -name '*.pyi' -delete
