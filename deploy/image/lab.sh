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
mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null)
binfmt=/proc/sys/fs/binfmt_misc
base=docker.io/library/python:3.11-slim
started=$(date +%s)
step() { echo "[${SECONDS}s] $*" >&2; }

needed() {
  local missing; missing=$(for one in "$@"; do dpkg -s "$one" > /dev/null 2>&1 || echo "$one"; done)
  [ -z "$missing" ] && return
  step "packages:" $missing
  timeout 300 apt-get update -qq
  timeout 900 apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing > "$lab/apt.log" 2>&1
}

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

# qemu 7.2 of Debian 12 shows the host's /proc/cpuinfo, and computes int8 wrongly on its default CPU. Version 10 from
# backports is unpacked here and not installed.
emulator() {
  local apt="$lab/apt" options
  options="-o Dir::Etc::sourcelist=$apt/list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$apt/lists
    -o Dir::Cache=$apt/cache -o APT::Sandbox::User=root"
  if [ ! -d "$lab/qemu" ]; then
    step "emulator"
    mkdir -p "$apt"/{lists,cache/archives}/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" > "$apt/list"
    timeout 300 apt-get $options update -qq
    (cd "$apt" && timeout 300 apt-get $options download -qq -t bookworm-backports qemu-user)
    dpkg-deb -x "$apt"/qemu-user_*.deb "$lab/qemu"
  fi
  mountpoint -q $binfmt || mount -t binfmt_misc binfmt_misc $binfmt
  # The ELF header of an aarch64 program. P keeps argv[0]; F opens the emulator now, for use in containers.
  printf '%s' ':lab-'$$':M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' \
    ':\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff' \
    ":$lab/qemu/usr/libexec/qemu-binfmt/aarch64-binfmt-P:PF" > $binfmt/register
}

# The packages are unpacked and not configured, so that no program of them has to run here. The certificates of this
# machine are included, since pip needs them behind a proxy.
import_base() {
  local certificates=/etc/ssl/certs/ca-certificates.crt tar=$lab/base.tar
  [ "$(podman image inspect -f '{{.Architecture}}' $base 2> /dev/null)" != "$arch" ] || return 0
  step "base image"
  timeout 900 mmdebstrap --quiet --architectures="$arch" --variant=extract --components=main \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=base-files,base-passwd,bash,ca-certificates,coreutils,dash,findutils,grep,libc-bin,libstdc++6,netbase,python3,python3-pip,sed \
    --extract-hook='cd "$1" && cp usr/share/base-passwd/passwd.master etc/passwd &&
      cp usr/share/base-passwd/group.master etc/group && ln -sfn dash usr/bin/sh && ln -sfn python3 usr/bin/python &&
      mkdir -p tmp etc/ssl/certs && chmod 1777 tmp && cp '"$certificates"' etc/ssl/certs' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    bookworm "$tar" "deb $mirror bookworm main"
  podman import -q --os linux --arch "$arch" -c 'CMD ["python3"]' -c "ENV PIP_CERT=$certificates" "$tar" $base > /dev/null 2>&1
  rm "$tar"
}

finish() {
  status=$?
  [ ! -e $binfmt/lab-$$ ] || echo -1 > $binfmt/lab-$$
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
[ "$arch" = "$(dpkg --print-architecture)" ] || emulator
import_base
export LAB_ARCH=$arch LAB_STARTED=$started
step "$*"
"$@"
