#!/usr/bin/env python3
"""Shards a model as verl's FSDP workers do, and shows that `seele merge` gives its weights back exactly.

    scripts/verl_fixtures.py MODEL OUT [--seele target/release/seele] [--ranks 2 4] [--types bf16 f32]
                             [--kinds KIND...] [--only-write]

MODEL is a Hugging Face folder. For every kind, number of ranks and number type, that many processes on the
CPU (PyTorch with gloo) shard it and write what verl's checkpoints consist of:

    OUT/<kind>-<ranks>-<type>/latest_checkpointed_iteration.txt
    OUT/<kind>-<ranks>-<type>/global_step_7/actor/model_world_size_<ranks>_rank_<r>.pt
    OUT/<kind>-<ranks>-<type>/global_step_7/actor/huggingface/

Kinds:

    fsdp2            fully_shard: DTensors, Shard(0)
    fsdp2-hybrid     fully_shard on a mesh of 2 rows: DTensors, Replicate and Shard(0)
    fsdp1            FullyShardedDataParallel with a mesh: DTensors
    fsdp1-hybrid     the same with HYBRID_SHARD on a mesh of 2 rows
    fsdp1-sharded    FullyShardedDataParallel without a mesh: ShardedTensor
    columns          DTensors, matrices Shard(1), vectors Replicate
    plain            plain tensors, cut along the first dimension
    plain-whole      plain tensors, each whole in every rank

Then `seele merge` makes one folder of each, and every tensor in it is compared with the model's, bit for
bit. Exit code 0: all the same; 1: something differs; 2: something could not be run.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

KINDS = [
    "fsdp2",
    "fsdp2-hybrid",
    "fsdp1",
    "fsdp1-hybrid",
    "fsdp1-sharded",
    "columns",
    "plain",
    "plain-whole",
]
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
STEP = 7


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="Hugging Face folder")
    parser.add_argument("out", type=Path, help="new folder for the checkpoints")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--only-write", action="store_true", help="do not merge")
    return parser.parse_args()


def stop(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def load(folder, dtype):
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=TYPES[dtype])


def by_fsdp2(model, mesh):
    from torch.distributed.fsdp import fully_shard

    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.state_dict()


def by_fsdp1(model, mesh, hybrid):
    from torch.distributed.fsdp import (
        FullyShardedDataParallel,
        ShardedStateDictConfig,
        ShardingStrategy,
        StateDictType,
    )

    strategy = ShardingStrategy.HYBRID_SHARD if hybrid else ShardingStrategy.FULL_SHARD
    layers = tuple({type(layer) for layer in model.model.layers})
    wrapped = FullyShardedDataParallel(
        model,
        device_id=torch.device("cpu"),
        device_mesh=mesh,
        sharding_strategy=strategy,
        auto_wrap_policy=lambda module, recurse, nonwrapped_numel: (
            recurse or isinstance(module, layers)
        ),
        use_orig_params=True,
    )
    with FullyShardedDataParallel.state_dict_type(
        wrapped, StateDictType.SHARDED_STATE_DICT, ShardedStateDictConfig()
    ):
        return wrapped.state_dict()


def by_columns(state, mesh):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    def placement(tensor):
        return Shard(1) if tensor.dim() == 2 else Replicate()

    return {
        name: distribute_tensor(tensor, mesh, [placement(tensor)]) for name, tensor in state.items()
    }


def by_chunks(state, rank, ranks):
    def chunk(tensor):
        chunks = tensor.chunk(ranks)
        return chunks[rank].clone() if rank < len(chunks) else tensor[:0].clone()

    return {name: chunk(tensor) for name, tensor in state.items()}


def shards_of(kind, model, rank, ranks):
    from torch.distributed.device_mesh import init_device_mesh

    line = lambda: init_device_mesh("cpu", (ranks,), mesh_dim_names=("fsdp",))
    grid = lambda: init_device_mesh("cpu", (2, ranks // 2), mesh_dim_names=("ddp", "fsdp"))
    match kind:
        case "fsdp2":
            return by_fsdp2(model, line())
        case "fsdp2-hybrid":
            return by_fsdp2(model, grid())
        case "fsdp1":
            return by_fsdp1(model, line(), hybrid=False)
        case "fsdp1-hybrid":
            return by_fsdp1(model, grid(), hybrid=True)
        case "fsdp1-sharded":
            return by_fsdp1(model, None, hybrid=False)
        case "columns":
            return by_columns(model.state_dict(), line())
        case "plain":
            return by_chunks(model.state_dict(), rank, ranks)
        case "plain-whole":
            return dict(model.state_dict())


def work(rank, ranks, port, source, jobs):
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(ranks)
    )
    # FSDP 1 warns of its age with every call.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    for kind, dtype, actor in jobs:
        state = shards_of(kind, load(source, dtype), rank, ranks)
        torch.save(state, actor / f"model_world_size_{ranks}_rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def prepare(kind, ranks, source, place):
    """The folders of a checkpoint with all but its shards; returns where those belong."""
    actor = place / f"global_step_{STEP}" / "actor"
    identity = actor / "huggingface"
    identity.mkdir(parents=True)
    (place / "latest_checkpointed_iteration.txt").write_text(str(STEP))
    for file in source.iterdir():
        if file.is_file() and file.suffix in (".json", ".jinja") and "index" not in file.name:
            shutil.copy(file, identity)
    version = {"fsdp1": 1, "fsdp2": 2}.get(kind.split("-")[0])
    if version:
        described = {"FSDP_version": version, "world_size": ranks}
        (actor / "fsdp_config.json").write_text(json.dumps(described))
    return actor


def write(args):
    """Names of the checkpoints written, each with its number type."""
    written = []
    for ranks in args.ranks:
        jobs = []
        for kind in args.kinds:
            if "hybrid" in kind and (ranks % 2 or ranks < 4):
                continue
            for dtype in args.types:
                name = f"{kind}-{ranks}-{dtype}"
                jobs.append((kind, dtype, prepare(kind, ranks, args.model, args.out / name)))
                written.append((name, dtype))
        mp.spawn(work, args=(ranks, free_port(), args.model, jobs), nprocs=ranks)
    return written


def differences(source, merged, dtype):
    """What is not as in the model, one line each."""
    from safetensors.torch import load_file

    expected = load(source, dtype).state_dict()
    found = {}
    for file in sorted(merged.glob("*.safetensors")):
        found |= load_file(file)
    tied = json.loads((source / "config.json").read_text()).get("tie_word_embeddings")
    if tied:
        expected.pop("lm_head.weight", None)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} is not of the model"
        elif found[name].dtype != expected[name].dtype:
            yield f"{name} is {found[name].dtype} instead of {expected[name].dtype}"
        elif found[name].shape != expected[name].shape:
            yield f"{name} has another shape"
        elif not torch.equal(
            found[name].contiguous().view(torch.uint8), expected[name].contiguous().view(torch.uint8)
        ):
            yield f"{name} has other values"


def merge(seele, place, merged):
    command = [seele, "merge", str(place), "--out", str(merged)]
    try:
        run = subprocess.run(command, capture_output=True, encoding="utf-8")
    except OSError as error:
        stop(f"cannot run `{seele}`: {error}; build it with `cargo build --release`")
    if run.returncode != 0:
        stop(f"`{' '.join(command)}` ended with {run.returncode}:\n{run.stderr}")


def main():
    args = arguments()
    if args.out.exists():
        stop(f"`{args.out}` exists already; name a new folder")
    written = write(args)
    if args.only_write:
        for name, _ in written:
            print(f"written: {args.out / name}")
        return
    different = 0
    for name, dtype in written:
        merged = args.out / f"{name}-merged"
        merge(args.seele, args.out / name, merged)
        problems = list(differences(args.model, merged, dtype))
        different += bool(problems)
        print(f"{'differs' if problems else 'same'}: {name}")
        for problem in problems:
            print(f"  {problem}")
    print(f"{len(written) - different} of {len(written)} merged to exactly the weights of the model")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
