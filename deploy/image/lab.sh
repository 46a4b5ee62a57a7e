#!/usr/bin/env bash
# Run a command with its own podman: without a container registry or a running container engine, and with an emulated
# Neoverse N1 for arm64. All files are in one directory, which is deleted at the end. Needs root on Debian 12.
#
#   deploy/image/lab.sh amd64|arm64 COMMAND [ARG ...]
#
# python:3.11-slim is made from Debian's packages under the same name, so that the Dockerfile need not change.
# A directory given as LAB is kept and used again. Emulation shows correctness, not speed.
set -euo pipefail
arch=$1; shift
here=$(cd "$(dirname "$0")" && pwd)
lab=${LAB:-$(mktemp -d -t embedding-api-lab.XXXXXX)}
base=docker.io/library/python:3.11-slim
started=$(date +%s)
. "$here/debian.sh"

# crun of Debian 12 refuses hybrid cgroups, and podman's default ulimits need CAP_SYS_RESOURCE. The network is the
# host's, since two labs at the same time would use the same bridge.
configure() {
  local files; files=$(ulimit -Hn)
  cat > "$lab/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=4096:4096"]
netns = "host"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  cat > "$lab/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$lab/storage"
runroot = "$lab/run"
CONF
  export CONTAINERS_CONF=$lab/containers.conf CONTAINERS_STORAGE_CONF=$lab/storage.conf
}

import_base() {
  local tar=$lab/base.tar
  [ "$(podman image inspect -f '{{.Architecture}}' $base 2> /dev/null)" != "$arch" ] || return 0
  step "base image"
  write_base "$arch" "$tar"
  podman import -q --os linux --arch "$arch" -c 'CMD ["python3"]' -c "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt" \
    "$tar" $base > /dev/null 2>&1
  rm "$tar"
}

finish() {
  status=$?
  forget_emulator
  if [ -z "${LAB:-}" ]; then
    podman rm -af > /dev/null 2>&1 || true
    podman rmi -af > /dev/null 2>&1 || true
    umount "$lab/storage/overlay" 2> /dev/null || true
    rm -rf "$lab"
  fi
  step "done"
  exit $status
}

mkdir -p "$lab"
configure  # before `finish` is set, which must remove images of this podman, not of root's
trap finish EXIT
# Container networks hang without iptables, and have no names without aardvark-dns.
needed aardvark-dns buildah iptables podman runc netavark mmdebstrap arch-test docker-registry
[ "$arch" = "$(dpkg --print-architecture)" ] || emulator "$lab/qemu"
import_base
export LAB_ARCH=$arch LAB_STARTED=$started
step "$*"
"$@"
