#!/usr/bin/env bash
# tools/check_layering accepts what the layers allow and names what they forbid.
source "$(dirname "$0")/lib.sh"

tree() {  # a small tree that keeps every rule
  rm -rf "${scratch:?}/src" "$scratch/tests" "$scratch/bench"
  put src/core/base/error.h <<<'#include <string>'
  put src/core/base/test_data.h <<<'#include <string>'
  put src/core/checkpoint/safetensors.h <<<'#include "core/base/error.h"'
  put src/core/image/tiling.h <<<'#include "core/base/error.h"'
  put src/core/image/tiling_test.cc <<<'#include "core/checkpoint/safetensors.h"'
  put src/engine/ops/ops.h <<<'#include "core/base/error.h"'
  put src/engine/cpu/cpu_ops.h <<<'#include "engine/ops/ops.h"'
  put src/engine/reference/reference_ops.h <<<'#include "engine/ops/ops.h"'
  put src/engine/backends.h <<<'#include "engine/ops/ops.h"'
  put src/engine/backends.cc <<<'#include "engine/cpu/cpu_ops.h"'
  put src/engine/model/decoder.h <<<'#include "engine/ops/ops.h"'
  put src/engine/model/decoder_test.cc <<<'#include "engine/reference/reference_ops.h"'
  put src/engine/runtime/engine.h <<<'#include "engine/model/decoder.h"'
  put src/apps/cli/main.cc <<<'#include "engine/runtime/engine.h"'
  put src/train/trainer.cc <<<'#include <torch/torch.h>'
  put tests/e2e/answers_test.cc <<<'#include "engine/cpu/cpu_ops.h"'
  put bench/rows.h <<<'#include "engine/cpu/cpu_ops.h"'
  put bench/rows.cc <<<'#include "rows.h"'
}

# forbid FILE LINE REASON: with LINE in FILE the check must fail and say REASON.
forbid() {
  tree
  put "$1" <<<"$2"
  expect 1 "$1:1: $3" "$top/tools/check_layering" "$scratch"
}

tree
expect 0 "0 violations" "$top/tools/check_layering" "$scratch"

forbid src/core/base/file.h '#include "core/image/tiling.h"' 'core/base includes core/image/tiling.h'
forbid src/core/image/decode.h '#include "core/checkpoint/safetensors.h"' 'core/image includes core/checkpoint/safetensors.h'
forbid src/core/base/file.h '#include "engine/ops/ops.h"' 'core/base includes engine/ops/ops.h'
forbid src/engine/ops/ops.cc '  #  include "engine/model/decoder.h"' 'engine/ops includes engine/model/decoder.h'
forbid src/engine/model/decoder.cc '#include "engine/cpu/cpu_ops.h"' 'names the backend engine/cpu'
forbid src/engine/runtime/engine.cc '#include "engine/cpu/cpu_ops.h"' 'names the backend engine/cpu'
forbid src/apps/cli/ask.cc '#include "engine/reference/reference_ops.h"' 'names the backend engine/reference'
forbid src/engine/cpu/cpu_ops.cc '#include "engine/reference/reference_ops.h"' 'engine/cpu includes engine/reference/reference_ops.h'
forbid src/engine/cpu/cpu_ops.cc '#include "engine/model/decoder.h"' 'engine/cpu includes engine/model/decoder.h'
forbid src/engine/runtime/engine.cc '#include "apps/cli/main.h"' '"apps/cli/main.h" is no file under src/'
forbid src/train/trainer.cc '#include "engine/ops/ops.h"' 'train includes engine/ops/ops.h'
forbid src/engine/runtime/engine.cc '#include <torch/torch.h>' '<torch/torch.h> belongs to train alone'
forbid src/engine/model/decoder.cc '#include "engine/runtime/engine.h"' 'engine/model includes engine/runtime/engine.h'
forbid src/core/image/tiling_test.cc '#include "engine/ops/ops.h"' 'core/image includes engine/ops/ops.h'
forbid src/core/image/decode.cc '#include "core/base/test_data.h"' 'test_data.h is for tests only'
forbid src/core/image/decode.cc '#include "tiling.h"' '"tiling.h" is no file under src/'
forbid src/core/image/decode.cc '#include "../base/error.h"' 'relative include'
forbid src/engine/model/decoder.cc '#include "engine/backends.cc"' 'includes the source file engine/backends.cc'
forbid tests/e2e/answers_test.cc '#include "engine/backends.cc"' 'includes the source file engine/backends.cc'
forbid bench/rows.cc '#include "columns.h"' '"columns.h" is no file under src/'
forbid src/misc/util.h '#include <string>' 'stands in no layer'

mkdir "$scratch/empty"
expect 2 "no src/" "$top/tools/check_layering" "$scratch/empty"
finish
