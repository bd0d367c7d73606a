#!/bin/sh
# Builds with `--features cuda` and checks what can be checked without a GPU:
#   scripts/cuda.sh [folder]          NVRTC only (90 MB): build, lints, kernels for Hopper, tests on their CPU form
#   scripts/cuda.sh --run [folder]    also cuBLAS, which a machine with a GPU needs at run time
# The libraries come from PyPI into `folder` (default: target/cuda); no toolkit is needed. What the last line
# prints lets the binary find them.
set -eu
cd "$(dirname "$0")/.."

packages="nvidia-cuda-nvrtc==13.0.*"
if [ "${1:-}" = --run ]; then
    packages="$packages nvidia-cublas==13.0.*"
    shift
fi
folder=$(mkdir -p "${1:-target/cuda}" && cd "${1:-target/cuda}" && pwd)
# Word splitting is meant: one package a word.
# shellcheck disable=SC2086
python3 -m pip install --quiet --no-deps --upgrade --target "$folder" $packages
libraries="$folder/nvidia/cu13/lib"
for library in libnvrtc.so.13 libnvrtc-builtins.so.13.0; do
    if [ ! -e "$libraries/$library" ]; then
        echo "no $library in $libraries: the package is laid out otherwise than this script expects" >&2
        exit 1
    fi
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# The same selection throughout, so that nothing is built twice.
set -- -p seele-policy -p seele-rollout -p seele-train -p seele --features seele/cuda
cargo clippy --release --workspace --features seele/cuda --all-targets -- -D warnings
cargo build --release -p seele --features cuda
# Every kernel for compute capability 9.0, 8.6 and 8.0; the device's decoder against the CPU's, on its kernels' CPU form or
# on a GPU that is there; devices short of memory.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --release "$@" --lib -- --nocapture cuda:: short_of_memory device >"$log" 2>&1 || {
    cat "$log"
    exit 1
}
cat "$log"
if grep -q "skipped: cannot find NVRTC" "$log"; then
    echo "NVRTC was not found, so no kernel was compiled" >&2
    exit 1
fi
# The golden models, then the commands and the whole trainer.
cargo test --release "$@" --test cuda_golden --test device -- --nocapture

echo "export LD_LIBRARY_PATH=$libraries"
