#!/usr/bin/env python3
"""Shows that `seele` and Python's `huggingface_hub` share a cache, both ways.

    scripts/check_hub.py MODEL DATA [--seele target/release/seele]

MODEL is a Hugging Face folder, DATA a JSON Lines file of problems. A local server imitates the hub with
both, as `owner/model` and the data set `owner/rows`. First `seele` fetches and `huggingface_hub` finds
everything in the cache without asking; then, in another cache, the other way round. Each is held against
the requests that the server has seen.

Run it with a Python that has `huggingface_hub`. Exit code 0: they share; 1: one asked for what the other
had fetched, or read something else; 2: something could not be run.
"""

import argparse
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

COMMIT = "1234567890" * 4
# Files from here on are kept as large ones are, under their SHA-256.
LARGE = 10_000


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--seele", default="target/release/seele", help="the binary")
    return parser.parse_args()


class Imitation(http.server.BaseHTTPRequestHandler):
    """The hub, as far as fetching needs it. `files` has paths by repository and name."""

    protocol_version = "HTTP/1.1"
    files = {}
    contents = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        if path.startswith("api/"):
            repository = path.removeprefix("api/").split("/revision/")[0].removeprefix("models/")
            if repository not in self.files:
                return self.send(404, b"{}", {})
            siblings = [{"rfilename": name} for name in self.files[repository]]
            id = repository.removeprefix("datasets/")
            body = {"_id": "1", "id": id, "sha": COMMIT, "siblings": siblings, "private": False,
                    "tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False}
            return self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        kept = path.startswith("kept/")
        repository, rest = path.removeprefix("kept/").split("/resolve/")
        content = self.files[repository][rest.split("/", 1)[1]].read_bytes()
        large = len(content) >= LARGE
        name = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(
            b"blob %d\0" % len(content) + content).hexdigest()
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if large and not kept:
            headers |= {"X-Linked-Etag": f'"{name}"', "X-Linked-Size": str(len(content)),
                        "Location": f"http://{self.headers['Host']}/kept/{path}"}
            return self.send(302, b"", headers)
        if self.command == "GET":
            self.contents.append(path)
        self.send(200, content, headers)

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def by_seele(args, environment):
    for command in (
        ["data", "inspect", "hf://owner/rows"],
        ["generate", "hf://owner/model", "--prompt", "1+1=", "--max-new-tokens", "2"],
    ):
        done = subprocess.run([args.seele, *command], env=os.environ | environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
        if done.returncode != 0:
            print(f"`seele {' '.join(command)}` ended with {done.returncode}: {done.stderr}", file=sys.stderr)
            return False
    return True


# Run as a program of its own: the library reads its environment when it is imported.
BY_PYTHON = """
import pathlib, sys
from huggingface_hub import hf_hub_download
offline = sys.argv[1] == "offline"
for repository, kind, file in zip(sys.argv[2::3], sys.argv[3::3], map(pathlib.Path, sys.argv[4::3])):
    found = hf_hub_download(repository, file.name, repo_type=kind, local_files_only=offline)
    assert pathlib.Path(found).read_bytes() == file.read_bytes(), file.name
"""


def by_python(args, environment, offline):
    files = [word for file in Imitation.files["owner/model"].values() for word in ("owner/model", "model", file)]
    files += ["owner/rows", "dataset", args.data]
    done = subprocess.run(
        [sys.executable, "-c", BY_PYTHON, "offline" if offline else "online", *files],
        env=os.environ | environment | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        stderr=subprocess.PIPE, encoding="utf-8")
    if done.returncode != 0:
        print(f"huggingface_hub: {done.stderr}", file=sys.stderr)
    return done.returncode == 0


def main():
    args = arguments()
    parts = (".json", ".jinja", ".safetensors")
    names = sorted(file for file in args.model.iterdir() if file.suffix in parts)
    Imitation.files = {
        "owner/model": {file.name: file for file in names},
        "datasets/owner/rows": {args.data.name: args.data},
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Imitation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    all_well = True
    for first in ("seele", "huggingface_hub"):
        with tempfile.TemporaryDirectory() as cache:
            environment = {"HF_HOME": cache, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
            Imitation.contents.clear()
            fetched = by_seele(args, environment) if first == "seele" else by_python(args, environment, False)
            if not fetched:
                sys.exit(2)
            count = len(Imitation.contents)
            alone = environment | {"HF_HUB_OFFLINE": "1"}
            # Offline all must be there; online nothing may be fetched again.
            if first == "seele":
                read = by_python(args, alone, True) and by_python(args, environment, False)
            else:
                read = by_seele(args, alone) and by_seele(args, environment)
            again = len(Imitation.contents) - count
            print(f"{first} fetched {count} files; the other read them{'' if read else ' NOT'}, and fetched {again}")
            all_well &= read and again == 0
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    main()
