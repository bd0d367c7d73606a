#!/usr/bin/env python3
"""Times `lmfit` (the library of the SEELE paper) beside `seele hint fit` on the same problems.

    scripts/compare_lmfit.py VENV [--seele target/release/seele] [--problems 200] [--repeats 200]

VENV is a folder for a Python environment; it is made, and `lmfit` installed into it from PyPI, if it
is not there. Each problem is one visit after three rounds of eight rollouts, five points with the
margins, as the second, third and fourth round of the method meet them. Both sides fit the same bounded
three-parameter curve to the same points, on one core: `lmfit` by trust-region least squares from the
method's start values, `seele` by its search for the global minimum. Each counts the time of the fits
alone, from observations to the hint rate; for the whole command, which also starts and reads and
writes JSON lines, see the second line of `seele`. Rounds of both alternate, and the fastest of each
counts, so that other work on the machine does not.

Prints fits a second of both, their ratios, and in how many problems either has the larger sum of
squares by more than 1e-6. Exit code 0: done; 1: `seele` had the larger sum of squares somewhere; 2:
something could not be run.
"""

import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import venv

TIE = 1e-6


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("venv", help="folder of the Python environment")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--problems", type=int, default=200, help="different problems")
    parser.add_argument("--repeats", type=int, default=200, help="times that seele fits each in a round")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of both")
    parser.add_argument("--seed", type=int, default=1, help="seed of the problems")
    return parser.parse_args()


def enter(folder):
    """Continues in the environment's interpreter, where lmfit is."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        venv.create(folder, with_pip=True)
    installed = subprocess.run([python, "-c", "import lmfit"], capture_output=True)
    if installed.returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "lmfit"], check=True)
    if os.path.realpath(sys.prefix) != os.path.realpath(folder):
        # One thread each: numpy reads these when it is imported.
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        os.execve(python, [python, *sys.argv], {**os.environ, **threads})


def curve(p, k, mu, b):
    return b + (1 - b) / (1 + math.exp(-k * (p + mu)))


def make_problems(count, seed):
    """Three rounds of eight rollouts at rates that close in on the middle of a random curve."""
    draw = random.Random(seed)
    problems = []
    while len(problems) < count:
        k, centre, b = 4 * 12.5 ** draw.random(), 0.3 + 0.5 * draw.random(), 0.3 * draw.random() ** 2
        tokens = draw.randrange(20, 400)
        rounds = {}
        for spread in (0.25, 0.15, 0.08):
            length = round(tokens * min(max(draw.gauss(centre, spread), 0.02), 0.98))
            accuracy = sum(draw.random() < curve(length / tokens, k, -centre, b) for _ in range(8)) / 8
            rounds[length / tokens] = accuracy
        if len(rounds) == 3:
            problems.append(sorted(rounds.items()))
    return problems


def sum_of_squares(points, k, mu, b):
    return sum((curve(p, k, mu, b) - a) ** 2 for p, a in points)


def with_margins(rounds):
    return [(0.0, 0.0), *rounds, (1.0, 1.0)]


def time_lmfit(problems):
    import lmfit
    import numpy as np

    def residual(parameters, p, a):
        k, mu, b = parameters["k"].value, parameters["mu"].value, parameters["b"].value
        return b + (1 - b) / (1 + np.exp(-k * (p + mu))) - a

    def fit(p, a):
        parameters = lmfit.Parameters()
        parameters.add("k", value=10, min=0.1, max=50)
        parameters.add("mu", value=-0.5, min=-2, max=2)
        parameters.add("b", value=0.05, min=0, max=0.95)
        return lmfit.minimize(residual, parameters, args=(p, a), method="least_squares")

    arrays = [np.array(with_margins(rounds)).T for rounds in problems]
    fit(*arrays[0])  # what is done once
    start = time.perf_counter()
    results = [fit(p, a) for p, a in arrays]
    seconds = time.perf_counter() - start
    fits = [tuple(result.params[name].value for name in ("k", "mu", "b")) for result in results]
    return fits, seconds / len(problems)


def time_seele(binary, problems, repeats):
    lines = [
        json.dumps({"id": index, "observations": [[p, a, 8] for p, a in rounds], "target": 0.5})
        for index, rounds in enumerate(problems)
    ]
    # Files rather than pipes: this process does not compete for the core then.
    with tempfile.TemporaryFile() as requests, tempfile.TemporaryFile() as answers:
        requests.write(("\n".join(lines) + "\n").encode() * repeats)
        requests.seek(0)
        start = time.perf_counter()
        done = subprocess.run(
            [binary, "hint", "fit", "--time"], stdin=requests, stdout=answers, stderr=subprocess.PIPE
        )
        seconds = time.perf_counter() - start
        answers.seek(0)
        fits = [json.loads(answers.readline() or "null") for _ in problems]
    speed = re.search(rb"([0-9]+) fits/s", done.stderr)
    if done.returncode != 0 or speed is None:
        raise OSError(f"`{binary} hint fit --time` failed: {done.stderr.decode()}")
    fits = [(fit["k"], fit["mu"], fit["b"]) for fit in fits]
    return fits, 1 / int(speed[1]), seconds / (len(problems) * repeats)


def main():
    options = arguments()
    try:
        enter(options.venv)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        problems = make_problems(options.problems, options.seed)
        lmfit_seconds, fit_seconds, command_seconds = math.inf, math.inf, math.inf
        for _ in range(options.rounds):
            theirs, seconds = time_lmfit(problems)
            lmfit_seconds = min(lmfit_seconds, seconds)
            ours, seconds, whole = time_seele(options.seele, problems, options.repeats)
            fit_seconds, command_seconds = min(fit_seconds, seconds), min(command_seconds, whole)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    differences = [
        sum_of_squares(with_margins(rounds), *their) - sum_of_squares(with_margins(rounds), *our)
        for rounds, their, our in zip(problems, theirs, ours)
    ]
    lmfit_worse = sum(difference > TIE for difference in differences)
    seele_worse = sum(difference < -TIE for difference in differences)
    print(f"problems                 {len(problems)} of 5 points, fastest of {options.rounds} rounds")
    print(f"lmfit                    {1 / lmfit_seconds:10.1f} fits/s")
    print(f"seele, fits              {1 / fit_seconds:10.1f} fits/s, {lmfit_seconds / fit_seconds:8.1f} x lmfit")
    print(f"seele, whole command     {1 / command_seconds:10.1f} fits/s, {lmfit_seconds / command_seconds:8.1f} x lmfit")
    print(f"larger sum of squares: lmfit in {lmfit_worse}, seele in {seele_worse}")
    return 1 if seele_worse else 0


if __name__ == "__main__":
    sys.exit(main())
