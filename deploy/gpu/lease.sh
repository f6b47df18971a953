#!/bin/bash
# Everything that is to be measured on a GPU, in the order in which it matters, for a host that is
# there for half an hour: three parts of at most ten minutes each.
#
#     bash deploy/gpu/lease.sh 1     the int8 kernel answers right; int8 and bf16, the roofline
#     bash deploy/gpu/lease.sh 2     the gateway beside stock vLLM and the engine alone
#     bash deploy/gpu/lease.sh 3     the whole product table, memory, the bundled model, FP8
#
# PY is the Python that has vLLM (default: .venv's, or python3). Results and logs go to OUT; what
# they are and how docs/gpu.md is made of them is said there. A part that is cut short keeps what it
# has measured.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

PY=${PY:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
OUT=${OUT:-.cache/bench/gpu/out}
CHECKPOINTS=${CHECKPOINTS:-/tmp/gpu-checkpoints}
PART_S=${PART_S:-570}
SHAPE=${SHAPE:-llama-8b}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$OUT"
failed=0

# So many seconds are left of this part.
left() { echo $((PART_S - SECONDS)); }

# step NAME SECONDS COMMAND...: its output goes to the terminal and into OUT; it ends with the part.
step() {
  local name=$1 limit=$2 rest
  shift 2
  rest=$(left)
  [ "$rest" -lt "$limit" ] && limit=$rest
  if [ "$limit" -lt 20 ]; then
    echo "== $name: left out, the time is over"
    failed=1
    return
  fi
  echo "== $name, at most $limit s"
  timeout "$limit" "$PY" -m app "$@" 2>&1 | tee "$OUT/$name.txt"
  local status=${PIPESTATUS[0]}
  echo "== $name ended with $status after $SECONDS s of the part"
  [ "$status" -eq 0 ] || failed=1
}

engine() {
  step "$1" "$2" bench-gpu --shape "$SHAPE" --checkpoints "$CHECKPOINTS" \
    --results "$OUT/engine.jsonl" --limit-s "$(($2 - 15))" "${@:3}"
}

case ${1:-} in
  1)
    step product-first 120 check-int8 --shape "$SHAPE" --rows 1,64,256
    engine engine-16-and-8 "$(left)" --modes int8,bf16 --mode-limit-s "$(($(left) / 2))"
    ;;
  2)
    step served "$(left)" bench-served --shape "$SHAPE" --checkpoints "$CHECKPOINTS" \
      --streams 256,64,512 --json "$OUT/served.json" --limit-s "$(($(left) - 40))"
    cp .cache/bench/gpu/logs/*.log "$OUT"/
    ;;
  3)
    step product 60 check-int8 --shape "$SHAPE"
    step memory 150 bench-memory llama-8b-w8a8 llama-8b-bf16 --results "$OUT/memory.json"
    step score 150 score --profile bundled-16bit --profile bundled \
      --questions 1500 --compare models/bundled/score.json
    engine engine-fp8 "$(left)" --modes fp8,int8/fp8-kv --no-ceilings --sequences 64,256
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
exit "$failed"
