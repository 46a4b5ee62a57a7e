#!/usr/bin/env bash
# Run a command beside a virtual machine like a new instance of Oracle A1: ARM64, Neoverse N1, two cores, 4 GB, systemd, and
# a firewall that refuses all but SSH. Debian 13 stands in for Ubuntu. Needs root on Debian 12.
#
#   deploy/vm/lab.sh COMMAND [ARG ...]
#
# The command finds `ssh -F $VM_SSH vm`, at https://127.0.0.1:$VM_HTTPS port 443 of the machine, and in $VM_IMAGE and
# $VM_MODELS the image of the service for ARM64 and a model store. The machine finds this one's loopback at 10.0.2.2. It
# is emulated, which shows correctness, not speed.
# All files are in one directory, which is deleted at the end. A directory given as LAB is kept, with its disk as new.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../image/debian.sh"
lab=${LAB:-$(mktemp -d -t embedding-api-vm.XXXXXX)}
PACKAGES=linux-image-cloud-arm64,systemd,systemd-sysv,udev,dbus,openssh-server,sudo,iproute2,ca-certificates,curl
PACKAGES=$PACKAGES,python3,iptables,iptables-persistent,e2fsprogs,kmod,apparmor

make_disk() {
  emulator "$lab/qemu"
  step "disk"
  rm -rf "$lab/root" "$lab/key" "$lab/key.pub"  # of a run that was interrupted
  ssh-keygen -q -t ed25519 -N "" -f "$lab/key"
  timeout 1800 mmdebstrap --quiet --architectures=arm64 --variant=apt --components=main --include=$PACKAGES \
    --customize-hook="$here/first_boot.sh"' "$1" '"$lab/key.pub" \
    trixie "$lab/root" "deb $mirror trixie main" > "$lab/mmdebstrap.log" 2>&1 || { tail -50 "$lab/mmdebstrap.log" >&2; return 1; }
  forget_emulator
  cp "$lab"/root/boot/vmlinuz-* "$lab/vmlinuz"
  cp "$lab"/root/boot/initrd.img-* "$lab/initrd"
  mke2fs -q -t ext4 -d "$lab/root" "$lab/disk.new" 30G
  rm -r "$lab/root"
  mv "$lab/disk.new" "$lab/disk"
}

make_image() {
  step "image"
  export BENTOML_HOME=$lab/bentoml MODEL_NAME=all-MiniLM-L6-v2 MODEL_QUANTIZATION=int8
  LAB= "$here/../image/lab.sh" arm64 bash -euc 'make -C "$1" image-arm64 MODEL=volume ENGINE=podman OPTIONS="--opt network=host"
    podman save -q -o "$2" $(podman images --format "{{.Repository}}:{{.Tag}}" | grep -- -arm64)' - "$here/../.." "$VM_IMAGE"
}

start() {
  qemu-system-aarch64 -M virt -cpu neoverse-n1 -smp 2 -m 4G -accel tcg,thread=multi -nographic \
    -kernel "$lab/vmlinuz" -initrd "$lab/initrd" -append "root=/dev/vda rw console=ttyAMA0" \
    -drive "file=$lab/disk,if=virtio,format=raw,snapshot=on,cache=unsafe" -device virtio-rng-pci \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$VM_PORT-:22,hostfwd=tcp:127.0.0.1:$VM_HTTPS-:443" \
    -device virtio-net-pci,netdev=net,romfile= < /dev/null > "$lab/console.log" 2>&1 &
  machine=$!
  cat > "$VM_SSH" <<CONF
Host vm
  HostName 127.0.0.1
  Port $VM_PORT
  User ubuntu
  IdentityFile $lab/key
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 10
CONF
  for _ in $(seq 60); do
    ssh -F "$VM_SSH" vm true 2> /dev/null && return
    kill -0 $machine 2> /dev/null || break
    sleep 2
  done
  tail -20 "$lab/console.log" >&2
  return 1
}

finish() {
  status=$?
  forget_emulator
  [ -z "${machine:-}" ] || kill "$machine" 2> /dev/null || true
  [ -n "${LAB:-}" ] || rm -rf "$lab"
  step "done"
  exit $status
}

mkdir -p "$lab"
trap finish EXIT
needed arch-test mmdebstrap openssh-client qemu-system-arm
export VM_SSH=$lab/ssh VM_PORT=${VM_PORT:-18922} VM_HTTPS=${VM_HTTPS:-18443}
export VM_IMAGE=$lab/image.tar VM_MODELS=$lab/bentoml/models
[ -e "$VM_IMAGE" ] || make_image
[ -e "$lab/disk" ] || make_disk
step "start"
start
step "$*"
"$@"
