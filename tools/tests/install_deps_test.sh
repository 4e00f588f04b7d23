#!/usr/bin/env bash
# scripts/install_deps.sh asks apt for exactly what dpkg says is missing, npm for exactly what lock files say, and nobody
# for anything when nothing is missing. dpkg-query, apt-get, npm, id and sudo are replaced by recorders; nothing is installed.
source "$(dirname "$0")/lib.sh"

put bin/dpkg-query <<'END'
#!/bin/sh
# `dpkg-query -W -f=FORMAT PACKAGE`: installed unless named in $ABSENT.
for package in "$@"; do :; done
case " $ABSENT " in *" $package "*) exit 1 ;; esac
echo "install ok installed"
END
put bin/apt-get <<'END'
#!/bin/sh
echo "apt-get($DEBIAN_FRONTEND): $*"
case "$*" in *" update"*) exit "${UPDATE_STATUS:-0}" ;; esac
exit "${INSTALL_STATUS:-0}"
END
put bin/sudo <<'END'
#!/bin/sh
echo "sudo"
exec "$@"
END
put bin/id <<'END'
#!/bin/sh
echo "${FAKE_UID:-0}"
END
put bin/apt-cache <<'END'
#!/bin/sh
exit "${UNKNOWN:-0}"
END
put bin/npm <<'END'
#!/bin/sh
echo "npm in ${PWD##*/tree/}: $*"
mkdir node_modules 2>/dev/null
exit "${NPM_STATUS:-0}"
END
put bin/node <<'END'
#!/bin/sh
exit "${NODE_IS_OLD:-0}"
END
chmod +x "$scratch"/bin/*
# A tree of its own, and a PATH that has no more than the script needs.
mkdir -p "$scratch/tree/scripts" "$scratch/tree/tests/clients/node"
cp "$top/scripts/install_deps.sh" "$scratch/tree/scripts"
cp "$top/tests/clients/node.sh" "$scratch/tree/tests/clients"
for folder in clients clients/node; do echo "$folder" >"$scratch/tree/tests/$folder/package-lock.json"; done
for tool in bash sh env sed grep cmp cp dirname mkdir; do ln -s "$(command -v $tool)" "$scratch/bin/$tool"; done
touch "$scratch/bin/chromium" && chmod +x "$scratch/bin/chromium"
deps() { env PATH="$scratch/bin" "$@" bash "$scratch/tree/scripts/install_deps.sh" ${flags[@]+"${flags[@]}"}; }
quiet_about() { ! deps "${@:2}" 2>&1 | grep -q -- "$1"; }

flags=()
expect 0 "packages are installed" deps ABSENT=
expect 0 "" quiet_about apt-get ABSENT=
expect 0 "" quiet_about sudo ABSENT= FAKE_UID=1000
expect 0 "install -y --no-install-recommends ccache libgif-dev" deps ABSENT="ccache libgif-dev"
expect 0 "apt-get(noninteractive)" deps ABSENT="ccache"
expect 0 "" quiet_about sudo ABSENT="ccache"
expect 0 "sudo" deps ABSENT="ccache" FAKE_UID=1000
expect 0 "packages are installed" deps ABSENT="libjpeg-dev clang-tidy"  # another libjpeg will do; clang-tidy is --dev
expect 0 "installed ccache" deps ABSENT="ccache" UPDATE_STATUS=100
expect 1 "could not install: ccache" deps ABSENT="ccache" INSTALL_STATUS=100
flags=(--dev)
expect 0 "install -y --no-install-recommends clang-tidy" deps ABSENT="clang-tidy"

# The web's part: from dpkg or from elsewhere, and packages of npm as the lock files have them.
flags=(--web)
web="nodejs npm chromium"
expect 0 "npm in tests/clients: ci --ignore-scripts --no-audit --no-fund" deps ABSENT="$web"
expect 0 "packages are installed" deps ABSENT="$web"  # as commands, and as npm left them before
expect 0 "" quiet_about "npm in" ABSENT="$web"
expect 0 "npm in tests/clients/node: ci" deps ABSENT="$web" NODE_IS_OLD=1
rm -r "$scratch/tree/tests/clients/node/node_modules"
echo changed >"$scratch/tree/tests/clients/package-lock.json"
expect 0 "" quiet_about "npm in tests/clients/node" ABSENT="$web" NPM_STATUS=1
expect 1 "could not install the packages of tests/clients" deps ABSENT="$web" NPM_STATUS=1
flags=(--web --check)
expect 1 "missing: npm packages of tests/clients" deps ABSENT="$web"
expect 0 "" quiet_about "npm in" ABSENT="$web"
flags=(--web)
mkdir -p "$scratch/tree/tests/page" && echo page >"$scratch/tree/tests/page/package-lock.json"
expect 0 "npm in tests/page: ci" deps ABSENT="$web"
rm "$scratch/bin/chromium"
expect 0 "install -y --no-install-recommends chromium" deps ABSENT="$web"
expect 0 "" quiet_about "no-install-recommends" ABSENT="$web" UNKNOWN=100
expect 0 "has no package chromium" deps ABSENT="$web" UNKNOWN=100
expect 0 "install -y --no-install-recommends ccache" deps ABSENT="ccache $web" UNKNOWN=100
rm "$scratch/bin/node"
expect 0 "install -y --no-install-recommends nodejs chromium" deps ABSENT="$web"
flags=()
expect 0 "packages are installed" deps ABSENT="$web"

flags=(--check)
expect 1 "missing: ccache" deps ABSENT="ccache"
expect 0 "" quiet_about apt-get ABSENT="ccache"
flags=(--nonsense)
expect 2 "unknown option" deps ABSENT=
finish
