#!/usr/bin/env bash
# From a fresh clone to answers: installs what is missing, builds, and asks the small model that ships with the source
# (models/nano) about the pictures in examples/. Answers stream as they are generated.
#
#   scripts/demo.sh [BOXES.png]      where the picture with a drawn box goes (default: build/demo-boxes.png)
set -euo pipefail
cd "$(dirname "$0")/.."
boxes=${1:-build/demo-boxes.png}

scripts/install_deps.sh
echo 'demo: building (the first time takes some minutes; the log is build/demo-build.log)'
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release --target vl2; } >build/demo-build.log 2>&1; then
  tail -n 40 build/demo-build.log >&2
  echo 'demo: the build failed, see build/demo-build.log' >&2
  exit 1
fi

ask() {  # PICTURE QUESTION [OPTION...]
  printf '\n[%s] %s\n  ' "$1" "$2"
  build/release/vl2 ask -i "examples/$1" "${@:3}" "$2" </dev/null
}

ask 2-three-shapes.png 'What color is the triangle?'
ask 2-three-shapes.png 'Is there an orange star?'
ask 3-shapes.png 'Which shapes are in the picture?'
ask 7-three-in-a-row.png 'How many shapes are there?'
ask 5-wide.png 'How many stars are in the picture?'
ask 5-wide.png 'What shape is blue?'
ask 6-small-landscape.png 'What color is the star?'
ask 7-three-in-a-row.png '<|ref|>the pink ring<|/ref|>' --boxes "$boxes"
printf '\ndemo: the box is drawn in %s\n' "$boxes"
printf 'demo: more questions with known answers: examples/README.md; your own: build/release/vl2 ask -i PICTURE "QUESTION"\n'
