#!/usr/bin/env bash
# Installs what vl2 needs to build, from the distribution's own packages (Debian 12, Ubuntu 22.04 or newer).
#
#   scripts/install_deps.sh              compiler, libraries, test framework
#   scripts/install_deps.sh --train      also libtorch (about 900 MB), for the program vl2-train
#   scripts/install_deps.sh --dev        also clang-format, clang-tidy (tools/) and Google Benchmark (bench/)
#   scripts/install_deps.sh --check      only say what is missing (exit 1 if anything is)
#
# Only what dpkg reports as missing is installed; with nothing missing there is no network access and no need for root.
set -euo pipefail

# One line a package; a|b means that either will do.
packages=(
  g++ cmake ninja-build pkg-config ccache
  nlohmann-json3-dev libsimdjson-dev libcli11-dev libfmt-dev libpcre2-dev
  'libjpeg-dev|libjpeg62-turbo-dev|libjpeg-turbo8-dev' libpng-dev libwebp-dev libgif-dev
  'libfreetype-dev|libfreetype6-dev' libharfbuzz-dev fonts-dejavu-core
  libedit-dev libssl-dev 'libcurl4-openssl-dev|libcurl4-gnutls-dev' libgtest-dev
  binutils 'mawk|gawk|original-awk'
)
# OpenBLAS because without it float32 products of libtorch run on the reference BLAS, many times slower; tcmalloc because
# it hands a step's large tensors out again faster than glibc, worth a sixth of the time of a small model.
train_packages=(libtorch-dev libopenblas0-pthread 'libtcmalloc-minimal4|libtcmalloc-minimal4t64')
dev_packages=(clang-format clang-tidy libbenchmark-dev)

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

check_only=false
while [ $# -gt 0 ]; do
  case $1 in
    --dev) packages+=("${dev_packages[@]}") ;;
    --train) packages+=("${train_packages[@]}") ;;
    --check) check_only=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install_deps: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
  shift
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_deps: this is no Debian or Ubuntu (no dpkg and apt-get here)." >&2
  echo "Install the equivalents of these packages by hand, then run: cmake --preset release" >&2
  printf '  %s\n' "${packages[@]%%|*}" >&2
  exit 1
fi

is_installed() {
  # Prints e.g. "install ok installed"; a package may be listed once for every architecture.
  dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -q ' installed$'
}

missing=()
for wanted in "${packages[@]}"; do
  IFS='|' read -ra choices <<<"$wanted"
  found=false
  for choice in "${choices[@]}"; do
    if is_installed "$choice"; then found=true; break; fi
  done
  $found || missing+=("${choices[0]}")
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "install_deps: all ${#packages[@]} packages are installed"
  exit 0
fi
echo "install_deps: missing: ${missing[*]}"
if $check_only; then exit 1; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps: not root and no sudo here; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() { ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 "$@" </dev/null; }

# A failed update is no verdict: the lists that are here may do (an offline mirror, one bad third-party source).
apt update || echo "install_deps: apt-get update failed, trying with the package lists that are here" >&2
if ! apt install -y --no-install-recommends "${missing[@]}"; then
  echo "install_deps: apt-get could not install: ${missing[*]}" >&2
  echo "Without a network, bring these packages by another way (see apt's message above); on Ubuntu the 'universe'" >&2
  echo "component must be on (sudo add-apt-repository universe)." >&2
  exit 1
fi
echo "install_deps: installed ${missing[*]}"
