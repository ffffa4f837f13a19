#!/usr/bin/env bash
# ./run bench and ./run check-peer: puts the real peers into .peers/ (or uses those under $INGOT_PEERS), then runs
# bench.py, or the script that $INGOT_BENCH names, with them.
# torch, transformers, PEFT and gguf come from PyPI as pip is configured here; llama.cpp's tools are built from the
# source in the llama-cpp-python sdist. Nothing of ingot needs any of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
peers=${INGOT_PEERS:-.peers}
mkdir -p "$peers"
peers=$(cd "$peers" && pwd)
version=0.3.36
llama_cpp=$peers/src/llama_cpp_python-$version/vendor/llama.cpp
python=$peers/venv/bin/python
log=$peers/log
mkdir -p "$log"

step() {  # NAME COMMAND...: quiet unless it fails
  local name=$1
  shift
  printf '== peers: %s\n' "$name"
  "$@" >"$log/$name.log" 2>&1 </dev/null || { tail -n 30 "$log/$name.log" >&2; echo "bench.sh: $name failed" >&2; exit 1; }
}

[[ -x $python ]] || step venv python3 -m venv "$peers/venv"
"$python" -c 'import torch' 2>/dev/null || step torch "$python" -m pip install torch==2.13.0
"$python" -c 'import peft, transformers, gguf, sentencepiece' 2>/dev/null ||
  step python-packages "$python" -m pip install peft==0.21.2 transformers==5.23.0 gguf==0.19.0 sentencepiece
[[ ${INGOT_BENCH:-} != formats.py ]] || "$python" -c 'import deepspeed' 2>/dev/null || step deepspeed "$python" -m pip install deepspeed==0.18.2
if [[ ${INGOT_BENCH:-} == checkpoints.py ]]; then
  "$python" -c 'import torch_checkpointing' 2>/dev/null || step torch_checkpointing "$python" -m pip install torch_checkpointing==0.1.1 safetensors
  exec "$python" -B bench/checkpoints.py "$@"
fi
if [[ ! -f $llama_cpp/convert_hf_to_gguf.py ]]; then
  step scikit-build-core "$python" -m pip install scikit-build-core
  step sdist "$python" -m pip download --no-deps --no-binary :all: --no-build-isolation -d "$peers/sdist" \
    "llama-cpp-python==$version"
  mkdir -p "$peers/src"
  step unpack tar xzf "$peers/sdist/llama_cpp_python-$version.tar.gz" -C "$peers/src"
fi
if [[ ! -x $peers/build/bin/llama-quantize ]]; then
  step llama-configure cmake -S "$llama_cpp" -B "$peers/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF
  step llama-build cmake --build "$peers/build" -j "$(nproc)" --target llama-quantize llama-simple llama-perplexity llama-bench llama-imatrix
fi
export LLAMA_CPP_DIR=$llama_cpp PEER_PYTHON=$python LLAMA_QUANTIZE=$peers/build/bin/llama-quantize
exec "$python" -B "bench/${INGOT_BENCH:-bench.py}" "$@"
