#!/usr/bin/env python3
"""Shows that `seele eval` and `transformers` solve the same GSM8K problems with the same model.

    scripts/compare_gsm8k.py MODEL --data DIR [--limit 200] [--template chat]
                             [--extraction fallback] [--max-new-tokens 320] [--batch 20]
                             [--seele target/release/seele] [--out runs/compare-gsm8k]

MODEL is a Hugging Face folder that both load (one that `seele` has saved); DIR holds `gsm8k/test.jsonl`.
Both answer the first problems greedily in float32 with the same chat template, the responses of
`transformers` are judged by `seele verify`, and every problem whose response differs is listed: where
the texts part, how close the two best logits are there, and both verdicts. What both wrote stays in
the folder of --out; a stopped comparison goes on from there.

Run it with a Python that has `torch` and `transformers`. Exit code 0: the same number of right
answers; 1: another number; 2: something could not be run.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tomllib

from check_transformers import stop

# Two logits closer than this may be ordered differently by two correct float32 programs.
TIE = 1e-3


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("--data", required=True, help="folder with gsm8k/test.jsonl")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--template", default="chat")
    parser.add_argument("--extraction", default="fallback")
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--batch", type=int, default=20, help="prompts that transformers answers at a time")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/compare-gsm8k"))
    return parser.parse_args()


def run(command, **options):
    try:
        done = subprocess.run(command, encoding="utf-8", stdout=subprocess.PIPE, **options)
    except OSError as error:
        stop(f"cannot run `{command[0]}`: {error}; build it with `cargo build --release`")
    if done.returncode != 0:
        stop(f"`{' '.join(command)}` ended with {done.returncode}")
    return done.stdout


def by_seele(args):
    """Header and responses of the record."""
    command = [args.seele, "eval", args.model, "--suite", "gsm8k", "--data", args.data]
    command += ["--limit", str(args.limit), "--template", args.template]
    command += ["--extraction", args.extraction, "--max-new-tokens", str(args.max_new_tokens)]
    run(command + ["--out", str(args.out)])
    with open(args.out / "gsm8k.jsonl", encoding="utf-8") as lines:
        header, *responses = [json.loads(line) for line in lines]
    return header, {response["id"]: response for response in responses}


class Reference:
    """The model as `transformers` loads it."""

    def __init__(self, folder, header):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.template = tomllib.loads(header["template"])
        if "messages" not in self.template:
            stop(f"`{self.template['name']}` is no chat template; choose one with `messages`")
        self.tokens = header["max_new_tokens"]
        self.ends = header["stop_tokens"]

    def prompt(self, question):
        messages = [
            {"role": m["role"], "content": m["content"].replace("{{question}}", question)}
            for m in self.template["messages"]
        ]
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    def greedy(self, problems):
        """One record a problem, answered together."""
        prompts = [self.prompt(problem["problem"]) for problem in problems]
        inputs = self.tokenizer(
            prompts, add_special_tokens=False, padding=True, return_tensors="pt"
        )
        with self.torch.no_grad():
            out = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.tokens,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id or 0,
            )
        for problem, row in zip(problems, out[:, inputs["input_ids"].shape[1] :].tolist()):
            end = next((place for place, token in enumerate(row) if token in self.ends), None)
            ids = row[:end]
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            yield {"id": problem["id"], "ids": ids, "response": text, "truncated": end is None}

    def parting(self, problem, record, other):
        """Place of the first token that leaves `other`, and the gap of the two best logits there."""
        decode = lambda ids: self.tokenizer.decode(ids, skip_special_tokens=True)
        ids = record["ids"]
        leaves = lambda count: not other.startswith(decode(ids[:count]).rstrip("\ufffd"))
        place = next((count for count in range(1, len(ids) + 1) if leaves(count)), len(ids) + 1) - 1
        prompt = self.tokenizer(self.prompt(problem["problem"]), add_special_tokens=False)["input_ids"]
        with self.torch.no_grad():
            logits = self.model(self.torch.tensor([prompt + ids[:place]])).logits[0, -1]
        first, second = logits.topk(2).values.tolist()
        return place, first - second


def by_transformers(args, reference, problems):
    """Responses by id, kept in a file from batch to batch."""
    path = args.out / "transformers.jsonl"
    found = {}
    if path.exists():
        with open(path, encoding="utf-8") as lines:
            whole = [line for line in lines if line.endswith("\n")]
        found = {record["id"]: record for record in map(json.loads, whole)}
    open_problems = [problem for problem in problems if problem["id"] not in found]
    with open(path, "a", encoding="utf-8") as file:
        for start in range(0, len(open_problems), args.batch):
            for record in reference.greedy(open_problems[start : start + args.batch]):
                file.write(json.dumps(record) + "\n")
                found[record["id"]] = record
            file.flush()
            print(f"\rtransformers: {len(found)} of {len(problems)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def judge(args, problems, records):
    """Ids of the problems that `records` solve."""
    lines = [
        json.dumps({"id": p["id"], "gold": p["answer"], "response": records[p["id"]]["response"]})
        for p in problems
    ]
    command = [args.seele, "verify", "--extract", args.extraction]
    printed = run(command, input="".join(line + "\n" for line in lines))
    verdicts = [json.loads(line) for line in printed.splitlines()]
    right = {verdict["id"] for verdict in verdicts if verdict["correct"]}
    return {id for id in right if not records[id]["truncated"]}


def main():
    args = arguments()
    header, ours = by_seele(args)
    with open(pathlib.Path(args.data) / "gsm8k" / "test.jsonl", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines][: args.limit]
    reference = Reference(args.model, header)
    theirs = by_transformers(args, reference, problems)
    right_ours = {id for id, response in ours.items() if response["correct"]}
    right_theirs = judge(args, problems, theirs)
    same = 0
    for problem in problems:
        id = problem["id"]
        text, other = theirs[id]["response"], ours[id]["response"]
        if text == other:
            same += 1
            continue
        place, gap = reference.parting(problem, theirs[id], other)
        tie = " (a tie)" if gap < TIE else ""
        say = lambda right: "right" if id in right else "wrong"
        print(
            f"{id}: the texts part at token {place}, where the two best logits are {gap:.1e} apart{tie}; "
            f"seele {say(right_ours)}, transformers {say(right_theirs)}"
        )
    print(f"{same} of {len(problems)} responses are the same text")
    print(f"right answers: seele {len(right_ours)}, transformers {len(right_theirs)}")
    only = [f"{id} ({name})" for name, ids in
            [("seele", right_ours - right_theirs), ("transformers", right_theirs - right_ours)]
            for id in sorted(ids)]
    print("solved by one only: " + (", ".join(only) or "none"))
    sys.exit(0 if len(right_ours) == len(right_theirs) else 1)


if __name__ == "__main__":
    main()
