#!/usr/bin/env python3
"""Makes tests/data/architectures/*.json: small models of each class, what transformers computes of them and what llama.cpp's converter writes.

Needs torch, transformers 5 and llama.cpp's source: LLAMA_CPP=dir python3 tests/data/make/architectures.py [NAME...]
Weights are a pure function of the tensor's name and the element's index (value() here, architecture_models.h in the tests), so that none is stored.
A case holds config.json, the tensors' names and shapes ({i} layer, {e} expert), tokens, logits of some positions (every STEP-th), and of the GGUF file
the metadata and of each tensor the name, shape, type and a hash of its bytes. bench/architectures_check.py imports it.
architectures_saved.json has of each case the config.json that transformers itself saves.
"""
import copy, json, os, re, runpy, shutil, sys, tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch
import numpy as np

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "architectures"
TOKENIZER = HERE.parents[2] / "examples" / "tiny-llama-base"
VOCAB, STEP, LENGTH = 4096, 32, 72
POSITIONS = [0, 20, 40, LENGTH - 1]
U = np.uint64


def mix(x):
    x = (x + U(0x9E3779B97F4A7C15))
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


def hash_text(s):
    h = U(0)
    for b in s.encode():
        h = mix(h ^ U(b))
    return h


def hash_bytes(data):
    """Order matters: each 32-bit word is mixed with its place."""
    words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype="<u4").astype(U)
    place = mix(np.arange(len(words), dtype=U))
    with np.errstate(over="ignore"):
        return int(np.sum(mix(words ^ place), dtype=U))


def unit(name, n):
    """In [-1, 1), multiples of 2^-23."""
    with np.errstate(over="ignore"):
        u = mix(np.arange(n, dtype=U) + hash_text(name))
    return ((u >> U(40)).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0 ** -23)


def value(name, shape, shifted_norms):
    """norms about 1 (or 0 where the class adds it), biases and the embedding plain, matrices by their inputs; a few parts larger, so that they matter."""
    n = int(np.prod(shape)) if shape else 1
    x = unit(name, n)
    if re.search(r"norm|ln_", name):
        x = x * np.float32(0.3)
        if name.endswith("weight") and not shifted_norms:
            x = x + np.float32(1)
    elif len(shape) == 1:
        x = x * np.float32(0.5)
    elif re.search(r"embed|wte|wpe|lm_head", name):
        x = x * np.float32(0.5)
    else:
        fan = shape[0] if re.search(r"\.c_(attn|proj|fc)\.weight$", name) and name.startswith("transformer.") else shape[-1]
        gain = 6.0 if re.search(r"mlp\.gate\.weight|block_sparse_moe\.gate", name) else 3.0
        x = x * np.float32(gain / np.sqrt(float(fan)))
    return x.reshape(shape)


base = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            bos_token_id=0, eos_token_id=1, pad_token_id=None, dtype="float32")
yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
CASES = {
    "llama": ("LlamaForCausalLM", dict(base, head_dim=32, rope_theta=5000.0, attention_bias=True, mlp_bias=True)),
    "llama3": ("LlamaForCausalLM", dict(base, tie_word_embeddings=True, rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32}, rope_theta=10000.0)),
    "mistral": ("MistralForCausalLM", dict(base, head_dim=32, sliding_window=24, rope_theta=10000.0)),
    "smollm3": ("SmolLM3ForCausalLM", dict(base, head_dim=32, tie_word_embeddings=True, rope_theta=10000.0, use_sliding_window=False, no_rope_layers=[1, 1, 1, 0])),
    "mixtral": ("MixtralForCausalLM", dict(base, num_local_experts=4, num_experts_per_tok=2, rope_theta=10000.0, head_dim=32, sliding_window=None)),
    "qwen2": ("Qwen2ForCausalLM", dict(base, rope_theta=10000.0, rope_scaling=yarn, use_sliding_window=True, sliding_window=24, max_window_layers=2)),
    "qwen3": ("Qwen3ForCausalLM", dict(base, head_dim=32, rope_theta=10000.0, tie_word_embeddings=True)),
    "qwen2moe": ("Qwen2MoeForCausalLM", dict(base, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48, norm_topk_prob=False,
                 rope_theta=10000.0, mlp_only_layers=[], decoder_sparse_step=1)),
    "qwen3moe": ("Qwen3MoeForCausalLM", dict(base, head_dim=32, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True, rope_theta=10000.0,
                 mlp_only_layers=[], decoder_sparse_step=1)),
    "gemma2": ("Gemma2ForCausalLM", dict(base, head_dim=32, query_pre_attn_scalar=32, sliding_window=24, attn_logit_softcapping=3.0, final_logit_softcapping=5.0,
               rope_theta=10000.0, hidden_activation="gelu_pytorch_tanh")),
    "gemma3": ("Gemma3ForCausalLM", dict(base, num_hidden_layers=7, head_dim=32, query_pre_attn_scalar=32, sliding_window=24, hidden_activation="gelu_pytorch_tanh",
               rope_theta=1000000.0, rope_local_base_freq=10000.0, rope_scaling={"rope_type": "linear", "factor": 8.0})),
    "phi3": ("Phi3ForCausalLM", dict(base, rope_theta=10000.0, sliding_window=None, original_max_position_embeddings=32, max_position_embeddings=256,
             rope_scaling={"type": "longrope", "short_factor": [1.0 + 0.05 * i for i in range(8)], "long_factor": [1.5 + 0.3 * i for i in range(8)]})),
    "phi4": ("Phi3ForCausalLM", dict(base, rope_theta=250000.0, sliding_window=24, original_max_position_embeddings=256, partial_rotary_factor=0.5)),
    "gpt2": ("GPT2LMHeadModel", dict(vocab_size=VOCAB, n_embd=64, n_layer=4, n_head=4, n_positions=256, n_ctx=256, bos_token_id=0, eos_token_id=1, dtype="float32")),
    "gptneox": ("GPTNeoXForCausalLM", dict({k: v for k, v in base.items() if k != "num_key_value_heads"}, rotary_pct=0.25, rotary_emb_base=10000, use_parallel_residual=True,
                tie_word_embeddings=False)),
    "gptneox-serial": ("GPTNeoXForCausalLM", dict({k: v for k, v in base.items() if k != "num_key_value_heads"}, rotary_pct=1.0, rotary_emb_base=10000, use_parallel_residual=False,
                       tie_word_embeddings=False)),
    "starcoder2": ("Starcoder2ForCausalLM", dict(base, rope_theta=10000.0, sliding_window=24, use_bias=True, norm_epsilon=1e-5)),
    "olmo2": ("Olmo2ForCausalLM", dict(base, rope_theta=10000.0)),
    "olmo3": ("Olmo3ForCausalLM", dict(base, rope_theta=10000.0, sliding_window=24, rope_scaling=yarn)),
    "granite": ("GraniteForCausalLM", dict(base, rope_theta=10000.0, embedding_multiplier=3.0, logits_scaling=0.5, residual_multiplier=0.4, attention_multiplier=0.1,
                tie_word_embeddings=True)),
    "cohere2": ("Cohere2ForCausalLM", dict(base, rope_theta=10000.0, sliding_window=24, logit_scale=0.5, rotary_pct=1.0)),
}
SHIFTED = {"gemma2", "gemma3"}


def but(case, without=(), **other):
    cls, config = CASES[case]
    return cls, {k: v for k, v in dict(config, **other).items() if k not in without}


# What fine-tunes have otherwise; with logits alone (variants/).
VARIANTS = {
    "qwen2moe-window": but("qwen2moe", use_sliding_window=True, sliding_window=24, max_window_layers=3),
    "smollm3-window": but("smollm3", use_sliding_window=True, sliding_window=24),
    "gemma2-defaults": but("gemma2", without=("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "head_dim", "rope_theta"), num_hidden_layers=2),
    "gemma2-full": but("gemma2", layer_types=["full_attention"] * 4),
    "gemma2-caps-off": but("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None),
    "gemma3-defaults": but("gemma3", without=("query_pre_attn_scalar", "rope_local_base_freq", "rope_theta")),
    "gptneox-theta": but("gptneox", rope_theta=500.0, partial_rotary_factor=0.5),
    "gptneox-parameters": but("gptneox", without=("rotary_emb_base",), rotary_pct=0.5, rope_parameters={"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.25}),
    "granite-head": but("granite", head_dim=32),
    "olmo2-head": but("olmo2", head_dim=32),
    "starcoder2-head": but("starcoder2", head_dim=32),
    "cohere2-head": but("cohere2", head_dim=32),
    "cohere2-full": but("cohere2", layer_types=["full_attention"] * 4),
    "phi3-head": but("phi4", head_dim=32),
    "phi3-su": but("phi3", rope_scaling=dict(CASES["phi3"][1]["rope_scaling"], rope_type="longrope", type="su")),
    "phi3-original": but("phi3", without=("original_max_position_embeddings",), max_position_embeddings=8192),
    "phi3-as-saved": but("phi3", without=("original_max_position_embeddings", "rope_theta"), rope_scaling=dict(CASES["phi3"][1]["rope_scaling"], rope_type="longrope", rope_theta=10000.0,
                         partial_rotary_factor=1.0, original_max_position_embeddings=4096), max_position_embeddings=8192),
    "qwen3-bias": but("qwen3", attention_bias=True),
    "gpt2-context": but("gpt2", n_ctx=64),
}


def template(name):
    name = re.sub(r"(?<=\.(?:h)\.)\d+(?=\.)|(?<=layers\.)\d+(?=\.)", "{i}", name)
    return re.sub(r"(?<=experts\.)\d+(?=\.)", "{e}", name)


def make_model(cls, config, shifted, directory):
    """A directory as people have it, with the bundled model's tokenizer; (config.json, {tensor: shape})."""
    import torch, transformers
    from safetensors.numpy import load_file, save_file
    torch.manual_seed(0)
    model = getattr(transformers, cls)(getattr(transformers, cls).config_class(**copy.deepcopy({k: v for k, v in config.items() if k != "dtype"})))
    model.save_pretrained(directory, max_shard_size="10GB")
    shapes = {k: v.shape for k, v in load_file(directory / "model.safetensors").items()}
    save_file({k: value(k, s, shifted) for k, s in shapes.items()}, directory / "model.safetensors", metadata={"format": "pt"})
    written = dict(config, architectures=[cls], model_type=json.load(open(directory / "config.json"))["model_type"])
    json.dump(written, open(directory / "config.json", "w"))
    (directory / "generation_config.json").unlink(missing_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, directory)
    return written, shapes


def transformers_model(directory):
    import torch, transformers
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model, tokens):
    import torch
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()


def tokens_of(case):
    return [int(t) for t in (mix(np.arange(LENGTH, dtype=U) + hash_text(case)) % U(VOCAB))]


def convert(directory, out, vocab):
    """llama.cpp's converter, as its command runs it; it knows the bundled tokenizer's rules by no hash, so they are told. Without vocab the file gets no tokenizer."""
    root = os.environ["LLAMA_CPP"]
    sys.path[:0] = [p for p in (root, root + "/gguf-py") if p not in sys.path]
    import conversion
    from conversion.base import ModelBase, TextModel
    config = json.load(open(directory / "config.json"))

    def load_hparams(*args, read=ModelBase.load_hparams, **named):
        return {**config, **read(*args, **named)}  # what transformers 5 renames when it reads (rotary_pct)

    script = root + "/convert_hf_to_gguf.py"
    with ExitStack() as stack:
        stack.enter_context(patch.object(TextModel, "get_vocab_base_pre", lambda self, tokenizer: "llama-bpe"))
        stack.enter_context(patch.object(ModelBase, "load_hparams", staticmethod(load_hparams)))
        stack.enter_context(patch.object(sys, "argv", [script, str(directory), "--outfile", str(out), "--outtype", "f32"]))
        if not vocab:
            stack.enter_context(patch.object(conversion.get_model_class(config["architectures"][0]), "set_vocab", lambda self: None))
        runpy.run_path(script, run_name="__main__")


def converted(directory):
    convert(directory, directory / "out.gguf", vocab=False)  # the tokenizer has tests of its own
    import gguf
    r = gguf.GGUFReader(directory / "out.gguf")
    metadata = {}
    for k, f in r.fields.items():
        if not k.startswith(("tokenizer.", "GGUF.")):
            metadata[k] = f.contents()
    tensors = [[t.name, [int(x) for x in reversed(t.shape)], t.tensor_type.name, f"{hash_bytes(t.data.tobytes()):016x}"] for t in r.tensors]
    return metadata, tensors


def saved_config(cls, config):
    import transformers
    saved = getattr(transformers, cls).config_class(**copy.deepcopy(config), architectures=[cls])
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        return json.load(open(Path(folder) / "config.json"))


def main():
    saved = {case: saved_config(*CASES[case]) for case in CASES}
    (HERE.parent / "architectures_saved.json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in saved.items()) + "\n}\n")
    OUT.mkdir(exist_ok=True)
    (OUT / "variants").mkdir(exist_ok=True)
    for case in sys.argv[1:] or [*CASES, *VARIANTS]:
        cls, config = {**CASES, **VARIANTS}[case]
        shifted = case.split("-")[0] in SHIFTED
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            config, shapes = make_model(cls, config, shifted, directory)
            tokens = tokens_of(case)
            logits = logits_of(transformers_model(directory), tokens)
            metadata, tensors = converted(directory) if case in CASES else (None, None)
        templates = {}
        for k, s in sorted(shapes.items()):
            templates[template(k)] = list(s)
        j = {"config": config, "shifted": shifted, "tensors": templates, "tokens": tokens, "deviation": float(logits.std()),
             "logits": {str(p): [float(np.float32(x)) for x in logits[p][::STEP]] for p in POSITIONS},
             "top": [int(x) for x in logits.argmax(-1)], "gguf": {"metadata": metadata, "tensors": tensors}}
        text = json.dumps(j, separators=(",", ":"))
        (OUT / ("" if case in CASES else "variants") / f"{case}.json").write_text(text + "\n")
        print(case, "std", round(j["deviation"], 3), "bytes", len(text), flush=True)


if __name__ == "__main__":
    main()
