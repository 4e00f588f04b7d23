#!/usr/bin/env bash
# scripts/install_deps.sh asks apt for exactly what dpkg says is missing, and for nothing when nothing is.
# dpkg-query, apt-get, id and sudo are replaced by recorders; nothing is installed.
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
chmod +x "$scratch"/bin/*
deps() { env PATH="$scratch/bin:/usr/bin:/bin" "$@" bash "$top/scripts/install_deps.sh" ${flags[@]+"${flags[@]}"}; }
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
flags=(--check)
expect 1 "missing: ccache" deps ABSENT="ccache"
expect 0 "" quiet_about apt-get ABSENT="ccache"
flags=(--nonsense)
expect 2 "unknown option" deps ABSENT=
finish
