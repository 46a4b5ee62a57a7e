# What the labs make of Debian's packages. Sourced by bash.
mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null)

step() { echo "[${SECONDS}s] $*" >&2; }

# needed PACKAGE ...: install those that are missing.
needed() {
  local missing; missing=$(for one in "$@"; do dpkg -s "$one" > /dev/null 2>&1 || echo "$one"; done)
  [ -z "$missing" ] && return
  step "packages:" $missing
  timeout 300 apt-get update -qq
  timeout 900 apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing > /dev/null
}

# unpack SUITE DIRECTORY PACKAGE ...: packages of another release, without installing them.
unpack() {
  local suite=$1 root=$2 apt=$2.apt options; shift 2
  options="-o Dir::Etc::sourcelist=$apt/list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$apt/lists
    -o Dir::Cache=$apt/cache -o APT::Sandbox::User=root"
  mkdir -p "$apt"/{lists,cache/archives}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$apt/list"
  timeout 300 apt-get $options update -qq
  (cd "$apt" && timeout 300 apt-get $options download -qq -t "$suite" "$@")
  for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$root"; done
  rm -r "$apt"
}

# write_base ARCH FILE.tar: what stands in for python:3.11-slim. The packages are unpacked and not configured, so that
# no program of them has to run here. The certificates of this machine are included, since pip needs them behind a
# proxy, and finds them where PIP_CERT says.
write_base() {
  timeout 900 mmdebstrap --quiet --architectures="$1" --variant=extract --components=main \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=base-files,base-passwd,bash,ca-certificates,coreutils,dash,findutils,grep,libc-bin,libstdc++6,netbase,python3,python3-pip,sed \
    --extract-hook='cd "$1" && cp usr/share/base-passwd/passwd.master etc/passwd &&
      cp usr/share/base-passwd/group.master etc/group && ln -sfn dash usr/bin/sh && ln -sfn python3 usr/bin/python &&
      mkdir -p tmp etc/ssl/certs && chmod 1777 tmp && cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    bookworm "$2" "deb $mirror bookworm main" > "$2.log" 2>&1 || { cat "$2.log" >&2; return 1; }
  rm "$2.log"
}

# emulator DIRECTORY: programs for aarch64 run, until `forget_emulator`. qemu 7.2 of Debian 12 shows the host's
# /proc/cpuinfo, and computes int8 wrongly on its default CPU. Version 11 of a later Debian is unpacked, not installed.
binfmt=/proc/sys/fs/binfmt_misc
emulator() {
  [ -d "$1" ] || { step "emulator"; unpack trixie-backports "$1" qemu-user; }
  mountpoint -q $binfmt || mount -t binfmt_misc binfmt_misc $binfmt
  # The ELF header of an aarch64 program. P keeps argv[0]; F opens the emulator now, for use in containers.
  printf '%s' ':lab-'$$':M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' \
    ':\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff' \
    ":$1/usr/bin/qemu-aarch64:PF" > $binfmt/register
}
forget_emulator() { [ ! -e $binfmt/lab-$$ ] || echo -1 > $binfmt/lab-$$; }
