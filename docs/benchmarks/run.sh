#!/usr/bin/env bash
# The measurements in docs/benchmarks: `make benchmarks`. About an hour on two cores; nothing else
# should run beside it. What is measured already (a file in the folder) is not measured again.
# Usage: run.sh FOLDER [options of every sama bench, such as --precision bf16 or --device cuda]
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"

bench() {
    local name=$1
    shift
    [ -f "$folder/$name.json" ] || "$SAMA" bench --json "$folder/$name.json" "$@"
}

bench minilm-unroll10 --model minilm --unroll 10 --estimators sama,sama:sharing --rounds 3 "$@"
bench minilm-unroll1 --model minilm --unroll 1 --estimators sama,sama-na --rounds 4 "$@"
bench minilm-unroll1-second-order --model minilm --unroll 1 --rounds 3 \
    --estimators neumann,cg,unrolled "$@"
bench minilm-2-processes --model minilm --unroll 1,10 --nproc 2 --estimators sama --rounds 2 "$@"
bench derivatives --model minilm --batch-size 4 --sequence-length 32 --estimators sama \
    --rounds 1 --derivatives "$@"
bench bert-base-unroll10 --model bert-base --unroll 10 --estimators sama --rounds 2 "$@"
bench bert-tiny --model bert-tiny --unroll 1,10 --estimators sama,neumann,cg --rounds 5 "$@"
bench bert-base-unroll1 --model bert-base --unroll 1 --estimators sama,neumann,cg --rounds 1 "$@"
