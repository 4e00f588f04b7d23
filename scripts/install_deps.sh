#!/usr/bin/env bash
# Installs what vl2 needs to build, from the distribution's own packages (Debian 12, Ubuntu 22.04 or newer).
#
#   scripts/install_deps.sh              compiler, libraries, test framework
#   scripts/install_deps.sh --train      also libtorch (about 900 MB), for the program vl2-train
#   scripts/install_deps.sh --dev        also clang-format, clang-tidy (tools/) and Google Benchmark (bench/)
#   scripts/install_deps.sh --web        also Node, Chromium and the npm packages of tests/clients and tests/page
#   scripts/install_deps.sh --check      only say what is missing (exit 1 if anything is)
#
# Only what is missing is installed; with nothing missing there is no network access and no need for root.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)

# One line a package; a|b means that either will do, command:NAME a program from wherever.
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
web_packages=('nodejs|command:node' 'npm|command:npm' 'chromium|command:chromium|command:chromium-browser|command:google-chrome')

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

check_only=false
web=false
while [ $# -gt 0 ]; do
  case $1 in
    --dev) packages+=("${dev_packages[@]}") ;;
    --train) packages+=("${train_packages[@]}") ;;
    --web) packages+=("${web_packages[@]}"); web=true ;;
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
  case $1 in command:*) command -v "${1#command:}" >/dev/null; return ;; esac
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

# Folders with a package-lock.json whose packages are not those in node_modules.
find_npm_folders() {
  npm_folders=()
  $web || return 0
  local folders=(tests/clients tests/page) folder
  # Debian 12 and Ubuntu 22.04 have a Node that is too old for the clients, but its npm can fetch a newer one.
  if ! node=$("$top/tests/clients/node.sh" 2>/dev/null) || [[ $node == "$top"/* ]]; then folders+=(tests/clients/node); fi
  for folder in "${folders[@]}"; do
    [ -e "$top/$folder/package-lock.json" ] || continue
    cmp -s "$top/$folder/package-lock.json" "$top/$folder/node_modules/.installed-lock.json" || npm_folders+=("$folder")
  done
}
find_npm_folders

if [ ${#missing[@]} -eq 0 ] && [ ${#npm_folders[@]} -eq 0 ]; then
  echo "install_deps: all ${#packages[@]} packages are installed"
  exit 0
fi
for folder in ${npm_folders[@]+"${npm_folders[@]}"}; do echo "install_deps: missing: npm packages of $folder"; done
if [ ${#missing[@]} -gt 0 ]; then echo "install_deps: missing: ${missing[*]}"; fi
if $check_only; then exit 1; fi

install_packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "install_deps: not root and no sudo here; as root run: apt-get install $*" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  apt() { ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 "$@" </dev/null; }

  # A failed update is no verdict: the lists that are here may do (an offline mirror, one bad third-party source).
  apt update || echo "install_deps: apt-get update failed, trying with the package lists that are here" >&2
  local package wanted=()
  for package in "$@"; do
    if [ "$package" = chromium ] && ! apt-cache show chromium >/dev/null 2>&1; then
      echo "install_deps: this distribution has no package chromium (Ubuntu has a snap); tests/page needs a Chromium or" >&2
      echo "Chrome on the PATH." >&2
    else
      wanted+=("$package")
    fi
  done
  if [ ${#wanted[@]} -eq 0 ]; then return; fi
  if ! apt install -y --no-install-recommends "${wanted[@]}"; then
    echo "install_deps: apt-get could not install: ${wanted[*]}" >&2
    echo "Without a network, bring these packages by another way (see apt's message above); on Ubuntu the 'universe'" >&2
    echo "component must be on (sudo add-apt-repository universe)." >&2
    exit 1
  fi
  echo "install_deps: installed ${wanted[*]}"
}
if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi

find_npm_folders  # again: there may be a Node now
for folder in ${npm_folders[@]+"${npm_folders[@]}"}; do
  # Exactly what the lock file says, and no package gets to run a program of its own.
  if ! (cd "$top/$folder" && npm ci --ignore-scripts --no-audit --no-fund </dev/null); then
    echo "install_deps: npm could not install the packages of $folder" >&2
    exit 1
  fi
  cp "$top/$folder/package-lock.json" "$top/$folder/node_modules/.installed-lock.json"
  echo "install_deps: installed the npm packages of $folder"
done
