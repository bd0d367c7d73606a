#!/usr/bin/env bash
# Makes the files of recipes/countdown.toml from the rows of UFT's countdown (github.com/liumy2010/UFT, Apache-2.0).
#
#   scripts/countdown.sh TRAIN.jsonl TEST.jsonl [FOLDER]        default: data/countdown
#
# Both are JSON lines with `problem`, `answer`, `solution`, `steps`, `numbers` and `target`; `seele data convert` makes
# such files from the published Parquet. Written are
# - train.jsonl and test.jsonl: the rows with three numbers, for a model with a token a letter shortened to what differs
#   from row to row: the statement to "[44, 19, 35] to 98", the solution by its last sentence, which repeats the answer;
# - warmup.jsonl: 60,000 generated problems of three or four numbers in the same form, none of them a row of UFT's. A
#   fresh model learns from them what a pretrained one knows: how to write a solution, and to calculate.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
train=$1
test=$2
folder=${3:-data/countdown}
generated=60000

shorten() {
    sed -E -e 's/"problem": "Using the numbers (\[[0-9, ]+\]), create an equation that equals ([0-9]+)\.[^"]*"/"problem": "\1 to \2"/' \
        -e 's/, "Therefore, the final equation is [^"]*"\]/]/' -e 's/Therefore, the final equation is [^"]*"/"/' "$1"
}

three_numbers() {
    grep -E '"problem": "\[[0-9]+, [0-9]+, [0-9]+\] to '
}

mkdir -p "$folder"
shorten "$train" | three_numbers >"$folder/train.jsonl"
shorten "$test" | three_numbers >"$folder/test.jsonl"

{ shorten "$train" && shorten "$test"; } | awk -v wanted="$generated" '
    # Key of a problem: its numbers in order of size, and the target.
    function key(numbers, count, target,    i, j, swap, text) {
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && numbers[j - 1] > numbers[j]; j--) {
                swap = numbers[j]; numbers[j] = numbers[j - 1]; numbers[j - 1] = swap
            }
        for (i = 1; i <= count; i++) text = text " " numbers[i]
        return text " to " target
    }
    # Park and Miller: the same numbers from every awk.
    function below(n) {
        state = (state * 16807) % 2147483647
        return int(state / 2147483647 * n)
    }
    # One problem of so many numbers: random pairs are joined by random operations until one value is left.
    # 0 if that leads nowhere.
    function generate(count,    left, i, j, o, value, text, line, lines, steps, listed, target) {
        left = count
        lines = steps = listed = ""
        for (i = 1; i <= count; i++) {
            drawn[i] = values[i] = texts[i] = 1 + below(99)
            listed = listed (i > 1 ? ", " : "") drawn[i]
        }
        while (left > 1) {
            i = 1 + below(left)
            do j = 1 + below(left); while (j == i)
            o = substr("+-*/", 1 + below(4), 1)
            if (o == "+") value = values[i] + values[j]
            else if (o == "-") value = values[i] - values[j]
            else if (o == "*") value = values[i] * values[j]
            else if (values[j] > 0 && values[i] % values[j] == 0) value = values[i] / values[j]
            else return 0
            if (value < 0 || value > 9999) return 0
            line = values[i] " " o " " values[j] " = " value "\\n"
            lines = lines line
            steps = steps (steps == "" ? "" : ", ") "\"" line "\""
            text = texts[i] " " o " " texts[j]
            values[i] = value
            texts[i] = left > 2 ? "(" text ")" : text
            values[j] = values[left]; texts[j] = texts[left]
            if (i == left) { values[j] = value; texts[j] = texts[i] }
            left--
        }
        # After the last join one of the two places holds the value.
        target = value
        if (target < 1 || target > 100) return 0
        split(listed, unsorted, ", ")
        for (i = 1; i <= count; i++) unsorted[i] += 0
        i = key(unsorted, count, target)
        if (i in seen) return 0
        seen[i] = 1
        made++
        printf "{\"id\": \"warmup-%05d\", \"source\": \"countdown\", \"problem\": \"[%s] to %d\", ", made, listed, target
        printf "\"answer\": \"%s\", \"solution\": \"%s\", \"steps\": [%s], ", text, lines, steps
        printf "\"numbers\": [%s], \"target\": %d}\n", listed, target
        return 1
    }
    {
        match($0, /\[[0-9, ]+\] to [0-9]+"/)
        statement = substr($0, RSTART + 1, RLENGTH - 2)
        split(statement, parts, "\\] to ")
        count = split(parts[1], row, ", ")
        for (i = 1; i <= count; i++) row[i] += 0
        seen[key(row, count, parts[2] + 0)] = 1
    }
    END {
        state = 20505
        while (made < wanted) {
            count = 3 + below(2)
            while (!generate(count)) {}
        }
    }' >"$folder/warmup.jsonl"
