#!/bin/sh
# Sets up .venv for a machine without a GPU: locked versions, vLLM's CPU build. Python 3.11 (tested) to 3.13.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv .venv # also one that was left without pip

# pip's own settings (index, find-links) come first; only where they offer no CPU build of torch, PyTorch's public index
# is asked as well. --no-deps: the lock is complete, and vLLM's metadata would pull CUDA builds of torchaudio and others.
torch=$(grep '^torch==' requirements.lock)
extra=""
if ! .venv/bin/python -m pip download -q --no-deps --dest .venv/torch "$torch" >/dev/null 2>&1; then
    extra="--extra-index-url https://download.pytorch.org/whl/cpu"
fi
rm -rf .venv/torch
# shellcheck disable=SC2086
.venv/bin/python -m pip install -q --no-deps --no-compile $extra -r requirements.lock
.venv/bin/python -m pip install -q --no-deps -e .
