#!/usr/bin/env python3
"""Shows that the official `openai` client talks to `seele serve`.

    scripts/check_openai.py MODEL [--seele target/release/seele] [--max-tokens 24]

Starts `seele serve MODEL` on a free port, asks for a chat, a stream, n = 4, log-probabilities,
stop texts and seeds, provokes errors, and ends the server by SIGINT. MODEL needs a chat template.

Run it with a Python that has `openai`. Exit code 0: everything as OpenAI has it; 1: something differs.
"""

import argparse
import math
import signal
import subprocess
import sys

import openai

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
failed = 0


def check(name, holds, found):
    global failed
    failed += not holds
    print(f"{'ok' if holds else 'DIFFERS'}: {name}: {found}")


def chat(client, model, tokens):
    ask = lambda **more: client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=tokens, **more
    )
    greedy = ask(temperature=0)
    text = greedy.choices[0].message.content
    check("chat", greedy.choices[0].message.role == "assistant", repr(text))
    usage = greedy.usage
    total = usage.prompt_tokens + usage.completion_tokens
    check("usage", 0 < usage.completion_tokens <= tokens and usage.total_tokens == total, usage)

    chunks = list(ask(temperature=0, stream=True, stream_options={"include_usage": True}))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    check("stream", "".join(pieces) == text and len(pieces) > 3, f"{len(pieces)} chunks, same text")
    ends = [c.choices[0].finish_reason for c in chunks if c.choices]
    check("stream ends", ends[-1] in ("stop", "length") and not any(ends[:-1]), ends[-1])
    check("stream usage", chunks[-1].usage == usage, chunks[-1].usage)

    four = ask(temperature=1, seed=7, n=4)
    texts = [choice.message.content for choice in four.choices]
    indices = [choice.index for choice in four.choices]
    check("n = 4", indices == [0, 1, 2, 3] and len(set(texts)) > 1, texts)
    again = [choice.message.content for choice in ask(temperature=1, seed=7, n=4).choices]
    check("seed", again == texts, "the same four again")
    growing = {}
    for chunk in ask(temperature=1, seed=7, n=4, stream=True):
        for choice in chunk.choices:
            growing[choice.index] = growing.get(choice.index, "") + (choice.delta.content or "")
    check("n = 4 as a stream", [growing[i] for i in range(4)] == texts, "the same four again")

    known = ask(temperature=0, logprobs=True, top_logprobs=3).choices[0]
    entries = known.logprobs.content
    joined = "".join(entry.token for entry in entries)
    check("logprobs join to the text", joined == known.message.content, f"{len(entries)} tokens")
    best = all(
        len(entry.top_logprobs) == 3
        and entry.top_logprobs[0].token == entry.token
        and math.isclose(entry.top_logprobs[0].logprob, entry.logprob, abs_tol=1e-5)
        and entry.logprob <= 0
        for entry in entries
    )
    check("greedy takes the likeliest of three", best, entries[0].top_logprobs)

    word = text.split()[1] if len(text.split()) > 1 else text[:1]
    stopped = ask(temperature=0, stop=[word]).choices[0]
    before = text.split(word)[0]
    check("stop", (stopped.message.content, stopped.finish_reason) == (before, "stop"), repr(word))


def completions(client, model, tokens):
    both = client.completions.create(
        model=model, prompt=["One, two,", "Red, green,"], max_tokens=tokens, temperature=0, logprobs=2
    )
    check("two prompts", [c.index for c in both.choices] == [0, 1], [c.text for c in both.choices])
    first = both.choices[0].logprobs
    same = len(first.tokens) == len(first.token_logprobs) == len(first.text_offset)
    check("completion logprobs", same and first.text_offset[0] == 0, f"{len(first.tokens)} tokens")
    stream = client.completions.create(
        model=model, prompt="One, two,", max_tokens=tokens, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].text for chunk in stream)
    check("completion stream", text == both.choices[0].text, repr(text))


def errors(client, model):
    def provoke(name, kind, call, param):
        try:
            call()
            check(name, False, "no error")
        except kind as error:
            check(name, error.param == param and bool(error.body["message"]), error.body)

    ask = lambda **more: client.chat.completions.create(messages=QUESTION, **{"model": model, **more})
    provoke("another model", openai.NotFoundError, lambda: ask(model="other"), "model")
    provoke("a temperature of 3", openai.BadRequestError, lambda: ask(temperature=3), "temperature")
    provoke("too long", openai.BadRequestError, lambda: ask(max_tokens=10**7), "messages")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    provoke("tools", openai.BadRequestError, lambda: ask(tools=tools), "tools")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder, file or run")
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    parser.add_argument("--max-tokens", type=int, default=24)
    args = parser.parse_args()
    command = [args.seele, "serve", args.model, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        url = server.stdout.readline().strip()
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        model = client.models.list().data[0].id
        check("models", client.models.retrieve(model).id == model, model)
        chat(client, model, args.max_tokens)
        completions(client, model, args.max_tokens)
        errors(client, model)
        client.close()
        server.send_signal(signal.SIGINT)
        check("SIGINT ends it", server.wait(timeout=60) == 0, "exit code 0")
    finally:
        server.kill()
    print(f"openai {openai.__version__}: " + ("all as expected" if not failed else f"{failed} differ"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
