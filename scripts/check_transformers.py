#!/usr/bin/env python3
"""Shows that `seele` and `transformers` write the same greedy text from the same model folder.

    scripts/check_transformers.py MODEL [--seele target/release/seele] [--prompt TEXT]...
                                  [--prompts FILE] [--max-new-tokens 32] [--chat] [--recorded FILE]

MODEL is a folder that `seele` has saved. Each prompt is continued twice: by

    seele generate MODEL --prompt TEXT --temperature 0 --max-new-tokens N --json [--chat]

which prints one JSON object with `text` and `ids` (the generated tokens), and by `transformers` in
float32. With --recorded the objects are read from a file instead, one a line, each with its `prompt`.

Run it with a Python that has `torch` and `transformers`. Exit code 0: all the same; 1: some text
differs; 2: something could not be run.
"""

import argparse
import json
import subprocess
import sys

DEFAULT_PROMPTS = [
    "The capital of France is",
    "1, 2, 3, 4,",
    "Question: Tom has 3 apples and buys 4 more. How many apples has he now?\nAnswer:",
]

# Two logits closer than this may be ordered differently by two correct float32 programs.
TIE = 1e-3


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; may be repeated")
    parser.add_argument("--prompts", help="file with one prompt a line, as JSON strings")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--chat", action="store_true", help="put prompts through the chat template")
    parser.add_argument("--recorded", help="JSON lines with `prompt`, `text`, `ids`, instead of running")
    return parser.parse_args()


def stop(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def prompts_of(args):
    prompts = list(args.prompt)
    if args.prompts:
        with open(args.prompts, encoding="utf-8") as lines:
            prompts += [json.loads(line) for line in lines if line.strip()]
    return prompts or DEFAULT_PROMPTS


def by_seele(args):
    """Pairs of a prompt and what `seele` printed for it."""
    if args.recorded:
        with open(args.recorded, encoding="utf-8") as lines:
            printed = [json.loads(line) for line in lines if line.strip()]
        return [(record["prompt"], record) for record in printed]
    pairs = []
    for prompt in prompts_of(args):
        command = [args.seele, "generate", args.model, "--prompt", prompt, "--temperature", "0"]
        command += ["--max-new-tokens", str(args.max_new_tokens), "--json"]
        command += ["--chat"] if args.chat else []
        try:
            run = subprocess.run(command, capture_output=True, encoding="utf-8")
        except OSError as error:
            stop(f"cannot run `{args.seele}`: {error}; build it with `cargo build --release`")
        if run.returncode != 0:
            stop(f"`{' '.join(command)}` ended with {run.returncode}:\n{run.stderr}")
        pairs.append((prompt, json.loads(run.stdout)))
    return pairs


class Reference:
    """The model as `transformers` loads it."""

    def __init__(self, folder):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        wrong = {kind: names for kind, names in report.items() if names}
        if wrong:
            stop(f"`transformers` does not find in `{folder}` what it expects: {wrong}")
        self.model.eval()
        ends = self.model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends]) - {None}

    def prompt_ids(self, prompt, chat):
        if chat:
            messages = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        return self.tokenizer(prompt, add_special_tokens=not chat)["input_ids"]

    def greedy(self, ids, tokens):
        """The generated ids up to the end token, and the gap of the two best logits at each."""
        inputs = self.torch.tensor([ids])
        with self.torch.no_grad():
            out = self.model.generate(
                inputs,
                attention_mask=self.torch.ones_like(inputs),
                do_sample=False,
                max_new_tokens=tokens,
                pad_token_id=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        best = [logits[0].topk(2).values for logits in out.logits]
        # Past the last step there is no choice that could be a tie.
        gaps = [float(first - second) for first, second in best] + [float("inf")]
        return self.without_end(out.sequences[0, len(ids) :].tolist()), gaps

    def without_end(self, ids):
        for place, token in enumerate(ids):
            if token in self.ends:
                return ids[:place]
        return ids


def compare(reference, prompt, record, args):
    """None if the same, else what differs."""
    ids = reference.prompt_ids(prompt, args.chat)
    if record.get("prompt_ids", ids) != ids:
        return f"the prompt has other ids: {record['prompt_ids']} instead of {ids}"
    expected, gaps = reference.greedy(ids, args.max_new_tokens)
    found = reference.without_end(record["ids"])
    for place in range(max(len(expected), len(found))):
        if expected[place : place + 1] != found[place : place + 1]:
            if gaps[place] < TIE:
                print(f"  tie at token {place}: gap {gaps[place]:.1e}; compared up to there")
                return None
            return (
                f"token {place} is {found[place : place + 1]} instead of {expected[place : place + 1]}, "
                f"with a gap of {gaps[place]:.3f} between the two best logits"
            )
    text = reference.tokenizer.decode(expected, skip_special_tokens=True)
    if record["text"] != text:
        return f"same ids, but the text is {record['text']!r} instead of {text!r}"
    return None


def main():
    args = arguments()
    pairs = by_seele(args)
    if not pairs:
        stop("there is nothing to compare")
    reference = Reference(args.model)
    different = 0
    for prompt, record in pairs:
        problem = compare(reference, prompt, record, args)
        different += problem is not None
        print(f"{'differs' if problem else 'same'}: {prompt!r} -> {record['text']!r}")
        if problem:
            print(f"  {problem}")
    print(f"{len(pairs) - different} of {len(pairs)} prompts give the same greedy text")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
