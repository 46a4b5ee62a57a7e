#!/usr/bin/env bash
# Run a command with its own Docker: the engine and compose of Debian 13, in a network namespace of their own and without
# a registry. All files are in one directory, which is deleted at the end. Needs root on Debian 12.
#
#   deploy/compose/lab.sh COMMAND [ARG ...]
#
# python:3.11-slim is made from Debian's packages under the same name. A directory given as LAB is kept and used again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../image/debian.sh"

# Docker publishes ports and changes the firewall: it does both where nothing else is. Outgoing connections leave through
# slirp4netns. Runs this script again in there.
if [ -z "${LAB_INSIDE:-}" ]; then
  needed iptables mmdebstrap runc slirp4netns
  export LAB_INSIDE=yes
  mkfifo "${fifo:=$(mktemp -u -t embedding-api-lab.XXXXXX)}"
  unshare --net --mount -- bash -c 'read -r < "$1"; rm "$1"; shift; exec "$@"' -- "$fifo" "$0" "$@" &
  inside=$!
  until [ "$(readlink /proc/$inside/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  slirp4netns --configure --disable-host-loopback "$inside" tap0 > /dev/null 2>&1 &
  slirp=$!
  trap 'kill $slirp 2> /dev/null' EXIT
  until nsenter -t "$inside" -n ip address show tap0 2> /dev/null | grep -q inet; do sleep 0.1; done
  echo > "$fifo"
  status=0
  wait "$inside" || status=$?
  exit $status
fi

lab=${LAB:-$(mktemp -d -t embedding-api-lab.XXXXXX)}
root=$lab/root
mkdir -p "$lab/config/cli-plugins"
[ -d "$root" ] || { step "docker"; unpack trixie "$root" containerd docker-buildx docker-cli docker-compose docker.io tini; }
ln -sf "$root"/usr/libexec/docker/cli-plugins/* "$lab/config/cli-plugins/"
export PATH=$root/usr/bin:$root/usr/sbin:$PATH DOCKER_CONFIG=$lab/config DOCKER_HOST=unix://$lab/docker.sock

finish() {
  status=$?
  if [ -n "${engine:-}" ]; then
    docker ps -aq | xargs -r docker rm -f > /dev/null || true
    kill "$engine" && wait "$engine" || true
  fi
  [ -n "${LAB:-}" ] || rm -rf "$lab"
  step "done"
  exit $status
}
trap finish EXIT

dockerd --data-root "$lab/docker" --exec-root "$lab/exec" --pidfile "$lab/pid" --host "$DOCKER_HOST" --group root \
  > "$lab/dockerd.log" 2>&1 &
engine=$!
for _ in $(seq 100); do docker version > /dev/null 2>&1 && break; kill -0 "$engine"; sleep 0.2; done
docker version > /dev/null

if ! docker image inspect python:3.11-slim > /dev/null 2>&1; then
  step "base image"
  write_base amd64 "$lab/base.tar"
  docker import -c 'CMD ["python3"]' -c "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt" \
    "$lab/base.tar" python:3.11-slim > /dev/null
  rm "$lab/base.tar"
fi
step "$*"
"$@"
