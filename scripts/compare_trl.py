#!/usr/bin/env python3
"""Times the Python stack beside `seele bench` on the same model, prompts and lengths, in one run.

    scripts/compare_trl.py VENV --model DIR --data FILE [--seele target/release/seele]
                           [--rounds 5] [--only decode train step tiny]
                           [--dtypes float32 bfloat16] [--json FILE]

VENV is a folder for a Python environment; it is made, and `torch`, `transformers` and `trl` installed into
it from PyPI, if they are not there. DIR is a model in Hugging Face layout, FILE holds problems as JSON
lines (`problem` or `question`); their first ones are the prompts of the training steps.

- decode: 64 new tokens for each of 32 samples of one prompt of 256 tokens, `generate` of `transformers`;
- train:  forward, backward and AdamW on 16 x 512 tokens, PyTorch;
- step:   a GRPO step of 4 prompts x 8 rollouts x 128 tokens, TRL;
- tiny:   a GRPO step of 64 prompts x 8 rollouts x 32 tokens of a model of 2 layers of width 128, TRL.

In each round both sides run once in a process of its own, in alternating order, so that what else the
machine does hits both alike. PyTorch keeps its buffers by the malloc settings below, which is worth 1.2 to
1.4 times to it. Both sides sample at temperature 1 without an early end, use the same threads, and do
every piece once before it is timed. The printed ratio is the median of the rounds' ratios.

Exit code 0: done; 2: something could not be run.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv

PACKAGES = ["torch", "transformers", "trl"]
# glibc then neither maps nor trims large blocks, so that pages are not faulted in again and again.
KEEP_BUFFERS = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
STEP = {"prompts": 4, "rollouts": 8, "new": 128, "micro": 8}
TINY = {"prompts": 64, "rollouts": 8, "new": 32, "micro": 512}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("venv", help="folder of the Python environment")
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--data", required=True, help="file of problems, JSON lines")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of both")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of both sides")
    parser.add_argument("--only", nargs="*", default=["decode", "train", "step", "tiny"])
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes, help="number types")
    parser.add_argument("--json", help="file for all times")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def enter(folder, packages):
    """Continues in the environment's interpreter, where the packages are."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        venv.create(folder, with_pip=True)
    imports = "; ".join(f"import {name}" for name in packages)
    if subprocess.run([python, "-c", imports], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    if os.path.realpath(sys.prefix) != os.path.realpath(folder):
        os.execv(python, [python, *sys.argv])


# The Python side. Each function runs in a process of its own and returns seconds.


def load(path, dtype):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))


def generate(task):
    """32 samples of one prompt; the time of the first token is that of the prefill."""
    import torch
    from transformers import LogitsProcessorList

    model = load(task["model"], task["dtype"]).eval()
    prompt = torch.randint(20, model.config.vocab_size, (1, 256)).expand(32, -1).contiguous()
    moments = []

    def note(_, scores):
        moments.append(time.perf_counter())
        return scores

    def run(new):
        moments.clear()
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=True,
                top_k=0,
                pad_token_id=0,
                eos_token_id=None,
                logits_processor=LogitsProcessorList([note]),
            )
        return begun, time.perf_counter()

    run(2)
    begun, ended = run(64)
    return {"seconds": ended - begun, "decode_seconds": ended - moments[0]}


def forward_backward(task):
    """16 sequences of 512 tokens in micro-batches of 4, then AdamW."""
    import torch

    model = load(task["model"], task["dtype"]).train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    tokens = torch.randint(20, model.config.vocab_size, (16, 512))

    def step(batches):
        for batch in batches:
            (model(input_ids=batch, labels=batch).loss / 4).backward()
        optimizer.step()
        optimizer.zero_grad()

    step([tokens[:1, :64]])
    begun = time.perf_counter()
    step(tokens.split(4))
    return {"seconds": time.perf_counter() - begun}


def grpo(task):
    """The second of two steps; its rollouts are generated inside it."""
    import transformers
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model = load(task["model"], task["dtype"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(task["model"])
    size = task["size"]
    rollouts = size["prompts"] * size["rollouts"]
    micro = min(size["micro"], rollouts)
    generation, steps = [], []

    class Timed(GRPOTrainer):
        def _generate_and_score_completions(self, *inputs, **options):
            begun = time.perf_counter()
            result = super()._generate_and_score_completions(*inputs, **options)
            generation.append(time.perf_counter() - begun)
            if int(result["completion_mask"].sum()) != result["completion_mask"].numel():
                raise SystemExit("rollouts of TRL ended early; the comparison would not be fair")
            return result

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.begun = time.perf_counter()

        def on_step_end(self, *_, **__):
            steps.append(time.perf_counter() - self.begun)

    config = GRPOConfig(
        output_dir=task["scratch"],
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rollouts // micro,
        num_generations=size["rollouts"],
        max_completion_length=size["new"],
        generation_kwargs={"min_new_tokens": size["new"]},
        max_steps=2,
        temperature=1.0,
        learning_rate=1e-6,
        beta=0.0,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        dataloader_pin_memory=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    with open(task["prompts"], encoding="utf-8") as file:
        prompts = [json.loads(line)["problem"] for line in file]
    trainer = Timed(
        model=model,
        args=config,
        # Each step sees the same prompts.
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts * 2]),
        reward_funcs=lambda completions, **_: [float(i % 2) for i in range(len(completions))],
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    return {"seconds": steps[-1], "rollout_seconds": generation[-1]}


WORKERS = {"decode": generate, "train": forward_backward, "step": grpo, "tiny": grpo}


def work(task):
    import torch

    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["round"])
    result = WORKERS[task["part"]](task)
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("RESULT " + json.dumps(result))


# Both sides.


def run(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        print(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        sys.exit(2)
    return done.stdout


def python_side(task):
    environment = {**KEEP_BUFFERS, "OMP_NUM_THREADS": str(task["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, os.path.abspath(__file__), "-", "--model=-", "--data=-"]
    output = run([*command, "--worker", json.dumps(task)], environment)
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def seele_side(args, task):
    compute = {"float32": "f32", "bfloat16": "bf16"}[task["dtype"]]
    command = [args.seele, "bench", task["part"].replace("tiny", "step"), task["model"]]
    command += ["--json", "--runs", "1", "--compute", compute, "--threads", str(task["threads"])]
    if task["part"] == "decode":
        command += ["--batch", "32", "--prompt", "256", "--new", "64"]
    elif task["part"] == "train":
        # One sequence at a time costs a twentieth of the speed and half of the memory for activations.
        command += ["--batch", "16", "--prompt", "1", "--new", "512", "--microbatch", "512"]
    else:
        size = task["size"]
        command += ["--batch", str(size["prompts"] * size["rollouts"]), "--share", str(size["rollouts"])]
        command += ["--new", str(size["new"]), "--data", task["prompts"]]
        if task["part"] == "step" and compute == "bf16":
            # A group in parts: half of TRL's memory for a little time. Float32 has that anyway.
            command += ["--microbatch", "700"]
    result = json.loads(run(command, {}))
    phases = {phase["name"]: phase["seconds"] for phase in result["phases"]}
    result["decode_seconds"] = phases.get("decode", 0) + phases.get("draw", 0)
    result["rollout_seconds"] = phases.get("rollout")
    return result


def tokenizer_of_characters():
    """One token a character, for both sides."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<eos>"]
    characters = [chr(code) for code in range(32, 127)]
    words = {text: index for index, text in enumerate(special + characters)}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def tiny_model(folder):
    """A fresh model and its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    tokenizer = tokenizer_of_characters()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_prompts(path, problems):
    with open(path, "w", encoding="utf-8") as file:
        for index, problem in enumerate(problems):
            file.write(json.dumps({"id": str(index), "problem": problem, "answer": "0"}) + "\n")


def cases(args, folder):
    """(title, task) of everything that is compared."""
    task = {"model": os.path.abspath(args.model), "threads": args.threads, "scratch": os.path.join(folder, "trl")}
    for part in args.only:
        if part in ("decode", "train"):
            for dtype in args.dtypes:
                yield f"{part} {dtype}", {**task, "part": part, "dtype": dtype}
        elif part == "step":
            with open(args.data, encoding="utf-8") as file:
                rows = [json.loads(next(file)) for _ in range(STEP["prompts"])]
            prompts = os.path.join(folder, "step.jsonl")
            write_prompts(prompts, [row.get("problem") or row["question"] for row in rows])
            for dtype in args.dtypes:
                yield f"step {dtype}", {**task, "part": part, "dtype": dtype, "size": STEP, "prompts": prompts}
        elif part == "tiny":
            model, prompts = os.path.join(folder, "tiny"), os.path.join(folder, "tiny.jsonl")
            tiny_model(model)
            write_prompts(prompts, [f"{i % 10}+{i // 10}=" for i in range(TINY["prompts"])])
            tiny = {"part": part, "model": model, "size": TINY, "prompts": prompts}
            for dtype in args.dtypes:
                yield f"tiny {dtype}", {**task, **tiny, "dtype": dtype}
        else:
            print(f"there is no part `{part}`", file=sys.stderr)
            sys.exit(2)


def compare(args, title, task):
    times = {"python": [], "seele": []}
    for index in range(args.rounds):
        task = {**task, "round": index}
        for side in ("python", "seele") if index % 2 == 0 else ("seele", "python"):
            times[side].append(python_side(task) if side == "python" else seele_side(args, task))
    for key, what in [
        ("seconds", "whole"),
        ("decode_seconds", "after prefill"),
        ("rollout_seconds", "rollouts"),
        ("peak_rss_mib", "memory, MiB"),
    ]:
        if not all(result.get(key) for side in times.values() for result in side):
            continue
        ours, theirs = ([result[key] for result in times[side]] for side in ("seele", "python"))
        ratios = [their / our for their, our in zip(theirs, ours)]
        print(
            f"{title:<16} {what:<14} python {statistics.median(theirs):>9.3f}   "
            f"seele {statistics.median(ours):>9.3f}   ratio {statistics.median(ratios):>6.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    return times


def main():
    args = arguments()
    if args.worker:
        work(json.loads(args.worker))
        return
    enter(args.venv, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        results = {title: compare(args, title, task) for title, task in cases(args, folder)}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
