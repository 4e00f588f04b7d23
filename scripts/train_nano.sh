#!/usr/bin/env bash
# Trains models/nano from nothing: draws its data, learns its tokenizer, runs the three stages, measures the result.
#
#   scripts/train_nano.sh             hours on two cores; Ctrl-C stops it, the same command goes on
#   STEPS=0.01 scripts/train_nano.sh  a hundredth of the steps and records, to see that everything works
#
# Everything goes into runs/nano. Needs vl2 and vl2-train (scripts/install_deps.sh --train, then build).
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  '') ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "train_nano: unknown option '$1' (see --help)" >&2; exit 2 ;;
esac

build=${BUILD:-build/release}
share=${STEPS:-1}
run=runs/nano
for program in vl2 vl2-train; do
  [ -x "$build/$program" ] || { echo "train_nano: no $build/$program; build it first (see CONTRIBUTING.md)" >&2; exit 1; }
done
part() { awk -v n="$1" -v share="$share" 'BEGIN { m = int(n * share); print m < 1 ? 1 : m }'; }

mkdir -p "$run"
draw() {  # NAME RECORDS SEED STAGE [OPTION...]
  "$build/vl2" data synth nano --out "$run/$1" --records "$(part "$2")" --seed "$3" --stage "$4" --tile 154 "${@:5}"
}
reading=word=80,number=14,locate=2,describe=4  # what is learnt last, in pictures of its own
draw alignment 300000 1 alignment
draw pretraining 300000 2 pretraining
draw sft 100000 3 sft
draw words 300000 4 alignment --skills "$reading"
draw sft_words 100000 5 sft --skills "$reading"
"$build/vl2" data synth nano --out "$run/held_out" --split test --records 2000 --questions one --seed 9 --tile 154
if [ ! -f "$run/model/tokenizer.json" ]; then
  mkdir -p "$run/model"
  cp src/train/recipes/nano/config.json "$run/model/config.json"
  cp src/train/recipes/nano/processor_config.json "$run/model/processor_config.json"
  "$build/vl2" data tokenizer "$run/pretraining/train.jsonl" --out "$run/model" --vocab 640
fi
for stage in alignment pretraining sft; do
  recipe=src/train/recipes/nano_$stage.json
  steps=$(sed -n 's/^ *"steps": \([0-9]*\),.*/\1/p' "$recipe")
  "$build/vl2-train" "$recipe" "steps=$(part "$steps")"
done
"$build/vl2" eval nano "$run/held_out/test.jsonl" -m "$run/sft_run/latest" --out "$run/answers.jsonl"
