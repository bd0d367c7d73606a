#!/usr/bin/env bash
# Shares the rows of countdown out for recipes/countdown.toml: 4,000 to warm up on, the other 1,000 to compare on.
#
#   scripts/countdown.sh TRAIN.jsonl TEST.jsonl [FOLDER]        default: data/countdown
#
# The rows are those of UFT's data (github.com/liumy2010/UFT, Apache-2.0) as JSON lines with `problem`, `answer`,
# `solution`, `steps`, `numbers` and `target`; `seele data convert` makes such a file from its Parquet.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
train=$1
test=$2
folder=${3:-data/countdown}

rows=$(wc -l <"$train")
if ((rows < 5000)); then
    echo "$train has $rows rows; 5000 are needed" >&2
    exit 2
fi
mkdir -p "$folder"
head -n 4000 "$train" >"$folder/warmup.jsonl"
sed -n '4001,5000p' "$train" >"$folder/train.jsonl"
cp "$test" "$folder/test.jsonl"
