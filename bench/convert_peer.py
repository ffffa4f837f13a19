#!/usr/bin/env python3
"""Runs llama.cpp's convert_hf_to_gguf.py with its pre-tokenizer set by hand (llama-bpe).

The reference refuses a vocabulary that it does not know by hash, as that of the bundled model is; all else is
its own code, unedited. Usage: LLAMA_CPP_DIR=... convert_peer.py MODEL_DIR --outfile F --outtype f16
"""
import os
import runpy
import sys

llama_cpp = os.environ.get("LLAMA_CPP_DIR")
if not llama_cpp or not os.path.isfile(os.path.join(llama_cpp, "convert_hf_to_gguf.py")):
    sys.exit("convert_peer.py: set LLAMA_CPP_DIR to llama.cpp's source folder (the one with convert_hf_to_gguf.py)")
sys.path.insert(0, os.path.join(llama_cpp, "gguf-py"))
sys.path.insert(0, llama_cpp)

from conversion.base import TextModel  # noqa: E402

TextModel.get_vocab_base_pre = lambda self, tokenizer: os.environ.get("PRE_TOKENIZER", "llama-bpe")
script = os.path.join(llama_cpp, "convert_hf_to_gguf.py")
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
