#!/usr/bin/env python3
"""What `seele` does on a GPU, beside PyTorch and `transformers` on the same one. Has not run on a GPU yet.

    scripts/cuda.sh --run                                  # builds; put what it prints into LD_LIBRARY_PATH
    scripts/gpu_report.py models  --venv VENV --out DIR    # random weights: SmolLM2-135M, Qwen2.5-1.5B
    scripts/gpu_report.py golden  --out DIR
    scripts/gpu_report.py train   --venv VENV --out DIR
    scripts/gpu_report.py rollout --venv VENV --out DIR
    scripts/gpu_report.py gsm8k   --out DIR --model MODEL --data DIR [--method grpo] [--seconds 540]
    scripts/gpu_report.py show    --out DIR

Every part takes a few minutes, `gsm8k` as long as `--seconds` says: called again, it goes on from where it
stopped. Parts write what they measured into DIR, `show` prints all of it beside the bars that were set.

- golden:  the tests that hold the kernels to the golden models and to the CPU, which use a GPU that is there;
- train:   forward, backward and AdamW on 64 sequences of 512 and of 1,024 tokens, both models, bfloat16 with
           float32 master weights: `seele bench train` beside `transformers` with SDPA and gradient checkpointing;
- rollout: 256 branches on 8 prompts of 256 tokens, 128 new tokens each, no early end: `seele bench decode`
           beside `generate` of `transformers`, which is given the prompts 32 times each;
- gsm8k:   100 steps of 64 problems x 32 rollouts with hints in four rounds, accuracy on the test problems before
           and after, and how far rounds 3 and 4 miss the target; `--method grpo` is the same without hints.

VENV is a folder for a Python environment, as of `compare_trl.py`. `--device` is `cuda`, or `cpu` or `emulated` to
try the script itself, with `--small` models and lengths. Exit code 0: done; 2: something could not be run; 3: `gsm8k`
has stopped in the middle, call it again.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from compare_trl import enter, run, tokenizer_of_characters

PACKAGES = ["torch", "transformers"]
# As the models that people train; vocabularies are larger than the tokenizer, as theirs are.
MODELS = {
    "smollm2-135m": {
        "kind": "Llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "rms_norm_eps": 1e-5,
    },
    "qwen2.5-1.5b": {
        "kind": "Qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
    },
}
SMALL = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
BARS = {"train": 1.3, "rollout": 4.0, "utilisation": 0.35, "deviation": 0.05, "seconds": 1800.0}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["models", "golden", "train", "rollout", "gsm8k", "show"])
    parser.add_argument("--out", required=True, help="folder of models, runs and measurements")
    parser.add_argument("--venv", help="folder of the Python environment")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seele", default="target/release/seele", help="the binary, built with the feature cuda")
    parser.add_argument("--only", help="one of the models")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--microbatch", type=int, default=16384, help="most tokens that go through together")
    parser.add_argument("--small", action="store_true", help="to try the script")
    parser.add_argument("--model", help="gsm8k: the model, such as what scripts/smollm2.sh brings")
    parser.add_argument("--data", help="gsm8k: folder with train.jsonl and test.jsonl")
    parser.add_argument("--method", default="seele", choices=["seele", "grpo"])
    parser.add_argument("--seconds", type=float, default=540.0, help="gsm8k: time of this call")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# The Python side, in a process of its own.


def place(task):
    import torch

    return torch.device("cuda" if task["device"].startswith("cuda") else "cpu")


def finish(device):
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def load(task, dtype):
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        task["model"], dtype=dtype, attn_implementation="sdpa"
    )
    return model.to(place(task))


def medians(task, work):
    """Median seconds, after one run that is not timed."""
    device, times = place(task), []
    for index in range(task["runs"] + 1):
        finish(device)
        begun = time.perf_counter()
        work()
        finish(device)
        if index > 0:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def train_in_python(task):
    import torch

    device = place(task)
    model = load(task, torch.float32).train()
    model.config.use_cache = False
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=device.type == "cuda")
    tokens = torch.randint(20, 96, (task["batch"], task["tokens"]), device=device)
    at_once = max(1, task["microbatch"] // task["tokens"])
    batches = tokens.split(at_once)

    def step():
        for batch in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = model(input_ids=batch, labels=batch).loss / len(batches)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"seconds": medians(task, step)}


def generate_in_python(task):
    import torch

    model = load(task, torch.bfloat16).eval()
    prompts = torch.randint(20, 96, (task["trunks"], task["prompt"]), device=place(task))
    prompts = prompts.repeat_interleave(task["batch"] // task["trunks"], 0)

    def generate(new):
        with torch.inference_mode():
            model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new, min_new_tokens=new,
                do_sample=True, top_k=0, pad_token_id=0, eos_token_id=None,
            )

    # Both sides' tokens a second leave the prefill out.
    whole = medians(task, lambda: generate(task["new"]))
    return {"seconds": whole - medians(task, lambda: generate(1)), "whole_seconds": whole}


def make_model(task):
    """Random weights, and a tokenizer of one token a character."""
    import torch
    import transformers

    shape = dict(task["shape"])
    kind = shape.pop("kind")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **shape, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0, dtype="bfloat16"
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16)
    model.save_pretrained(task["model"])
    tokenizer_of_characters().save_pretrained(task["model"])
    return {}


WORKERS = {"train": train_in_python, "rollout": generate_in_python, "models": make_model}


def python_side(args, task):
    command = [os.path.join(args.venv, "bin", "python"), os.path.abspath(__file__), task["part"], "--out", args.out]
    output = run([*command, "--worker", json.dumps(task)], {"TOKENIZERS_PARALLELISM": "false"})
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


# Both sides.


def bench(args, what, model, more):
    command = [args.seele, "bench", what, model, "--json", "--device", args.device, "--runs", str(args.runs)]
    return json.loads(run([*command, "--compute", "bf16", *map(str, more)], {}))


def keep(args, name, result):
    with open(os.path.join(args.out, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)


def model_of(args, name):
    return os.path.join(args.out, name)


def chosen(args):
    return [args.only] if args.only else list(MODELS)


def models(args):
    for name in chosen(args):
        shape = {**MODELS[name], **(SMALL if args.small else {})}
        python_side(args, {"part": "models", "model": model_of(args, name), "shape": shape, "device": "cpu"})
        print(model_of(args, name))


def golden(args):
    packages = ["test", "--release", "--features", "seele/cuda", "-p", "seele-policy", "-p", "seele"]
    tests = ["--lib", "--test", "cuda_golden", "--test", "device", "--", "--nocapture", "cuda", "equal", "emulated"]
    done = subprocess.run(["cargo", *packages, *tests], capture_output=True, text=True)
    print(done.stdout[-4000:] + done.stderr[-4000:])
    on = sorted({line for line in done.stderr.splitlines() if line.startswith("golden models in ")})
    keep(args, "golden", {"passed": done.returncode == 0, "on": on})
    return 0 if done.returncode == 0 else 2


def train(args):
    batch = 4 if args.small else 64
    for name in chosen(args):
        for tokens in (24, 48) if args.small else (512, 1024):
            ours = bench(args, "train", model_of(args, name),
                         ["--batch", batch, "--prompt", 1, "--new", tokens, "--microbatch", args.microbatch])
            theirs = python_side(args, {"part": "train", "model": model_of(args, name), "device": args.device,
                                        "batch": batch, "tokens": tokens, "microbatch": args.microbatch,
                                        "runs": args.runs})
            # The last token is no input of ours, and one of theirs that nothing is predicted from.
            keep(args, f"train-{name}-{tokens}", {
                "model": name, "tokens": tokens, "seele": ours, "python": theirs,
                "ratio": theirs["seconds"] / ours["seconds"],
            })
    return show(args, "train-")


def rollout(args):
    sizes = {"batch": 8, "trunks": 2, "prompt": 12, "new": 8} if args.small else \
        {"batch": 256, "trunks": 8, "prompt": 256, "new": 128}
    for name in chosen(args):
        share = sizes["batch"] // sizes["trunks"]
        ours = bench(args, "decode", model_of(args, name),
                     ["--batch", sizes["batch"], "--share", share, "--prompt", sizes["prompt"], "--new", sizes["new"]])
        task = {"part": "rollout", "model": model_of(args, name), "device": args.device, "runs": args.runs}
        theirs = python_side(args, {**task, **sizes})
        phases = {phase["name"]: phase for phase in ours["phases"]}
        seconds = phases["decode"]["seconds"] + phases["draw"]["seconds"]
        keep(args, f"rollout-{name}", {"model": name, "seele": ours, "python": theirs,
                                       "ratio": theirs["seconds"] / seconds})
    return show(args, "rollout-")


def gsm8k(args):
    """Trains for some time; a run that was stopped goes on."""
    folder = os.path.join(args.out, f"gsm8k-{args.method}")
    finished = os.path.join(folder, "model")
    if os.path.exists(finished):
        return show(args, "gsm8k")
    steps, problems, rollouts = (2, 2, 4) if args.small else (100, 64, 32)
    settings = [
        f"method={args.method}", f"steps={steps}", f"device={args.device}", f"model.path={args.model}",
        f"data.path={os.path.join(args.data, 'train.jsonl')}",
        f"eval.sets.gsm8k.path={os.path.join(args.data, 'test.jsonl')}",
        f"eval.sets.gsm8k.limit={4 if args.small else 1319}", f"eval.every_steps={steps}",
        f"rollout.problems_per_step={problems}", f"rollout.rollouts_per_problem={rollouts}",
        f"rollout.max_active_branches={problems * rollouts}", f"update.problems_per_update={problems}",
        f"rollout.max_new_tokens={8 if args.small else 256}", f"update.tokens_per_microbatch={args.microbatch}",
    ]
    if os.path.exists(os.path.join(folder, "recipe.toml")):
        command = [args.seele, "train", "--resume", folder]
    else:
        command = [args.seele, "train", "recipes/smollm2-gsm8k.toml", "--out", folder]
        command += [part for setting in settings for part in ("--set", setting)]
    begun = time.monotonic()
    training = subprocess.Popen(command)
    try:
        code = training.wait(timeout=args.seconds)
    except subprocess.TimeoutExpired:
        # Ends after the step, with a checkpoint.
        training.send_signal(signal.SIGINT)
        code = training.wait()
    with open(os.path.join(args.out, f"gsm8k-{args.method}.calls"), "a", encoding="utf-8") as file:
        file.write(f"{time.monotonic() - begun}\n")
    if os.path.exists(finished):
        return show(args, "gsm8k")
    return 3 if code == 130 else 2


# What came of it.


def verdict(value, bar, higher=True):
    return f"{value:.3f} ({'reaches' if (value >= bar if higher else value <= bar) else 'misses'} {bar})"


def show_gsm8k(args):
    for method in ("seele", "grpo"):
        path = os.path.join(args.out, f"gsm8k-{method}", "metrics.jsonl")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        steps = [row for row in rows if row.get("time/step")]
        accuracies = [row["eval/gsm8k/accuracy"] for row in rows if "eval/gsm8k/accuracy" in row]
        seconds = sum(row["time/step"] for row in steps)
        print(f"gsm8k {method}: {len(steps)} steps in {verdict(seconds, BARS['seconds'], False)} s, test accuracy "
              f"{accuracies[0] if accuracies else float('nan'):.4f} before, {accuracies[-1] if accuracies else float('nan'):.4f} after")
        for number in (3, 4):
            found = [row[key] for row in steps for key in [f"hint/round_{number}/accuracy"] if key in row]
            if method == "seele" and found:
                miss = abs(statistics.fmean(found) - 0.5)
                print(f"  round {number}: accuracy {statistics.fmean(found):.3f}, off the target by {verdict(miss, BARS['deviation'], False)}")


def show(args, prefix=""):
    for file in sorted(os.listdir(args.out)):
        if not (file.endswith(".json") and file.startswith(prefix)):
            continue
        with open(os.path.join(args.out, file), encoding="utf-8") as handle:
            found = json.load(handle)
        name = file.removesuffix(".json")
        if name == "golden":
            print(f"golden: {'passed' if found['passed'] else 'FAILED'}; {', '.join(found['on'])}")
            continue
        ours = found["seele"]
        part = name.split("-")[0]
        print(f"{name} on {ours['device']}: {ours['tokens_per_second']:.0f} tokens/s, "
              f"{verdict(found['ratio'], BARS[part])} times Python's; of the {ours['peak']['source']} peak, "
              f"{100 * ours['flop_utilisation']:.1f} % of FLOP/s, {100 * ours['bandwidth_share']:.1f} % of bandwidth")
        if part == "train" and "qwen" in name:
            print(f"  model FLOP utilisation {verdict(ours['flop_utilisation'], BARS['utilisation'])}")
        if ours["shortages"]["microbatches"]:
            print(f"  {ours['shortages']['microbatches']} micro-batches went through in halves")
    if "gsm8k".startswith(prefix):
        show_gsm8k(args)
    return 0


def main():
    args = arguments()
    if args.worker:
        task = json.loads(args.worker)
        print("RESULT " + json.dumps(WORKERS[task["part"]](task)))
        return 0
    os.makedirs(args.out, exist_ok=True)
    if args.part in WORKERS:
        if not args.venv:
            print(f"`{args.part}` needs --venv", file=sys.stderr)
            return 2
        enter(args.venv, PACKAGES)
    if args.part == "gsm8k" and not (args.model and args.data):
        print("`gsm8k` needs --model and --data", file=sys.stderr)
        return 2
    parts = {"models": models, "golden": golden, "train": train, "rollout": rollout, "gsm8k": gsm8k, "show": show}
    return parts[args.part](args) or 0


if __name__ == "__main__":
    sys.exit(main())
