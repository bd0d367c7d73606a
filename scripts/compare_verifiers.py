#!/usr/bin/env python3
"""Times and judges three answer checkers on the same cases in one run, one process each, one thread.

    python3 -m venv .venv
    .venv/bin/pip install mathruler==0.1.0 pylatexenc tqdm math-verify==0.9.0 antlr4-python3-runtime==4.13.2
    cargo build --release -p seele
    .venv/bin/python scripts/compare_verifiers.py

Cases: `verifier.jsonl` in $SEELE_GOLDEN, or in ../shared/golden beside the repository; hostile ones are left out of the
timing. `seele verify` is run on the cases many times over, start-up included, and reports what a user of the command sees.
The libraries get the gold and prediction in the form their own documentation asks for.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def load_cases():
    folder = pathlib.Path(os.environ.get("SEELE_GOLDEN", ROOT.parent / "shared" / "golden"))
    with open(folder / "verifier.jsonl", encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    return [case for case in cases if not case["category"].startswith("hostile")]


def boxed(case):
    """What a library that reads boxes is given."""
    return case["response"] if "response" in case else "\\boxed{" + case["prediction"] + "}"


def mathruler(case):
    from mathruler.grader import extract_boxed_content, grade_answer

    return bool(grade_answer(extract_boxed_content(boxed(case)), case["gold"]))


def math_verify(case):
    from math_verify import parse, verify
    from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig

    if case.get("extract") == "choice":
        config = [StringExtractionConfig(strings=tuple("ABCDEFGHIJ")), LatexExtractionConfig()]
        return bool(verify(parse(case["gold"], config), parse(case["response"], config)))
    config = [LatexExtractionConfig(), ExprExtractionConfig()]
    gold = case["gold"]
    wrapped = "\\boxed{" + gold + "}" if "$" in gold else "$" + gold + "$"
    return bool(verify(parse(wrapped, config), parse(boxed(case), config)))


def time_library(judge, cases):
    """Verdicts and seconds; an exception is a refusal, but not on the first case, which is not timed: there it is a missing package."""
    judge(cases[0])
    verdicts, start = [], time.perf_counter()
    for case in cases:
        try:
            verdicts.append(judge(case))
        except Exception:
            verdicts.append(False)
    return verdicts, time.perf_counter() - start


def time_seele(binary, cases, repeats):
    """Verdicts and seconds a pass, from the difference of a long and a short run of the command."""

    def run(times):
        lines = "".join(json.dumps(case) + "\n" for case in cases) * times
        start = time.perf_counter()
        done = subprocess.run([binary, "verify"], input=lines, capture_output=True, text=True, check=True)
        return done.stdout, time.perf_counter() - start

    output, _ = run(1)
    verdicts = [json.loads(line)["correct"] for line in output.splitlines()]
    seconds = min(run(repeats)[1] for _ in range(3))
    return verdicts, seconds / repeats


def report(name, verdicts, seconds, cases):
    right = sum(verdict == case["expected"] for verdict, case in zip(verdicts, cases))
    accepted = collections.Counter((case["expected"], verdict) for verdict, case in zip(verdicts, cases))
    all_right = accepted[True, True] + accepted[True, False]
    all_wrong = accepted[False, True] + accepted[False, False]
    print(
        f"{name:12} {len(cases) / seconds:12,.1f} verdicts/s   accuracy {100 * right / len(cases):6.2f} %   "
        f"right accepted {100 * accepted[True, True] / all_right:6.2f} %   wrong accepted {100 * accepted[False, True] / all_wrong:5.2f} %",
        flush=True,
    )
    return len(cases) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seele", default=str(ROOT / "target" / "release" / "seele"), help="the binary")
    parser.add_argument("--repeats", type=int, default=100, help="passes of `seele verify` in one run")
    parser.add_argument("--limit", type=int, help="only so many cases for Math-Verify, which is slow")
    arguments = parser.parse_args()
    cases = load_cases()
    if not pathlib.Path(arguments.seele).exists():
        sys.exit(f"{arguments.seele} is not there: build it with `cargo build --release -p seele`, or give --seele")
    print(f"{len(cases)} cases, hostile ones left out; one process, one thread, imports excluded")
    seele = report("seele", *time_seele(arguments.seele, cases, arguments.repeats), cases)
    ruler = report("MathRuler", *time_library(mathruler, cases), cases)
    slow = cases[:: max(1, len(cases) // arguments.limit)] if arguments.limit else cases
    verify = report("Math-Verify", *time_library(math_verify, slow), slow)
    print(f"seele / MathRuler {seele / ruler:,.0f}   seele / Math-Verify {seele / verify:,.0f}")


if __name__ == "__main__":
    main()
