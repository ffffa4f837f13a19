"""Llama-like models under Megatron's names, made from Hugging Face's by the inverse of the published exports (Megatron-LM tools/checkpoint, NeMo's _export_qkv,
_export_linear_fc1, _export_embedding; Megatron Bridge's QKVMapping and GatedMLPMapping). No Megatron needed: torch, safetensors and, for --check, transformers.

    python megatron_names.py OUT                    small random models: OUT/{llama,qwen2,moe}/..., each with hf/ as the expected result
    python megatron_names.py OUT --base HF_DIR      a real directory as OUT/megatron (torch_dist), to be converted and compared
"""
import argparse, io, json, os, shutil

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file


def fuse(q, k, v, groups):
    """[groups, (heads of a group + 1 + 1) * head_dim, ...]: the queries of a group, its key, its value."""
    parts = [x.reshape(groups, x.shape[0] // groups, *x.shape[1:]) for x in (q, k, v)]
    return torch.cat(parts, 1).reshape(-1, *q.shape[1:])


def pad(x, rows):
    return torch.cat([x, torch.full((rows - x.shape[0], x.shape[1]), 7.0, dtype=x.dtype)]) if rows > x.shape[0] else x


def megatron(hf, c, rows, fused_norms):
    """Numbered layers, names of Megatron Core."""
    out = {"embedding.word_embeddings.weight": pad(hf["model.embed_tokens.weight"], rows), "decoder.final_layernorm.weight": hf["model.norm.weight"]}
    if "lm_head.weight" in hf: out["output_layer.weight"] = pad(hf["lm_head.weight"], rows)
    for i in range(c["num_hidden_layers"]):
        a, b = f"model.layers.{i}.", f"decoder.layers.{i}."
        first, second = ("self_attention.linear_qkv.layer_norm_weight", "mlp.linear_fc1.layer_norm_weight") if fused_norms else ("input_layernorm.weight", "pre_mlp_layernorm.weight")
        out[b + first] = hf[a + "input_layernorm.weight"]
        out[b + second] = hf[a + "post_attention_layernorm.weight"]
        for kind in ("weight", "bias"):
            if a + "self_attn.q_proj." + kind in hf:
                out[b + "self_attention.linear_qkv." + kind] = fuse(*(hf[a + f"self_attn.{n}_proj.{kind}"] for n in "qkv"), c["num_key_value_heads"])
        out[b + "self_attention.linear_proj.weight"] = hf[a + "self_attn.o_proj.weight"]
        if "num_local_experts" in c:
            e = a + "block_sparse_moe."
            out[b + "mlp.router.weight"] = hf[e + "gate.weight"]
            for n in range(c["num_local_experts"]):
                out[b + f"mlp.experts.local_experts.{n}.linear_fc1.weight"] = torch.cat([hf[f"{e}experts.{n}.w1.weight"], hf[f"{e}experts.{n}.w3.weight"]])
                out[b + f"mlp.experts.local_experts.{n}.linear_fc2.weight"] = hf[f"{e}experts.{n}.w2.weight"]
        else:
            out[b + "mlp.linear_fc1.weight"] = torch.cat([hf[a + "mlp.gate_proj.weight"], hf[a + "mlp.up_proj.weight"]])
            out[b + "mlp.linear_fc2.weight"] = hf[a + "mlp.down_proj.weight"]
    return out


def stacked(named, c):
    """As torch_dist has them: the layers on a first axis, then the experts."""
    out, layers = {}, {}
    for name, x in named.items():
        parts = name.split(".layers.")
        if len(parts) == 1:
            out[name] = x
            continue
        i, rest = parts[1].split(".", 1)
        layers.setdefault(rest, {})[int(i)] = x
    experts = {}
    for rest, by in layers.items():
        x = torch.stack([by[i] for i in range(len(by))])
        if ".local_experts." in rest:
            n, kind = rest.split(".local_experts.")[1].split(".", 1)
            experts.setdefault(kind, {})[int(n)] = x
        else: out["decoder.layers." + rest] = x
    for kind, by in experts.items():
        out["decoder.layers.mlp.experts.experts." + kind] = torch.stack([by[n] for n in range(len(by))], 1)
    return out


def legacy(named):
    """The nested dicts and names of Megatron-LM's older modules."""
    layers = {}
    for name, x in named.items():
        if ".layers." not in name: continue
        for new, old in (("self_attention.linear_qkv.layer_norm_", "input_norm."), ("mlp.linear_fc1.layer_norm_", "post_attention_norm."), ("input_layernorm", "input_norm"),
                         ("pre_mlp_layernorm", "post_attention_norm"), ("linear_qkv", "query_key_value"), ("linear_proj", "dense"), ("linear_fc1", "dense_h_to_4h"),
                         ("linear_fc2", "dense_4h_to_h")):
            name = name.replace(new, old)
        layers[name.removeprefix("decoder.")] = x
    layers["final_norm.weight"] = named["decoder.final_layernorm.weight"]
    model = {"embedding": {"word_embeddings": {"weight": named["embedding.word_embeddings.weight"]}}, "encoder": layers}
    if "output_layer.weight" in named: model["output_layer"] = {"weight": named["output_layer.weight"]}
    return {"language_model": model}


def arguments(c, rows, **more):
    return argparse.Namespace(num_layers=c["num_hidden_layers"], hidden_size=c["hidden_size"], ffn_hidden_size=c["intermediate_size"], num_attention_heads=c["num_attention_heads"],
                              group_query_attention=True, num_query_groups=c["num_key_value_heads"], kv_channels=c["head_dim"], max_position_embeddings=c["max_position_embeddings"],
                              norm_epsilon=c["rms_norm_eps"], rotary_base=c["rope_theta"], rotary_percent=1.0, position_embedding_type="rope", normalization="RMSNorm", swiglu=True,
                              padded_vocab_size=rows, vocab_size=None, make_vocab_size_divisible_by=64, tensor_model_parallel_size=1, pipeline_model_parallel_size=1,
                              untie_embeddings_and_output_weights=not c["tie_word_embeddings"], **more)


def extra_state():
    b = io.BytesIO()
    torch.save(torch.zeros(4, dtype=torch.uint8), b)
    return b


def save_dist(directory, tensors, common, **json_values):
    shutil.rmtree(directory, ignore_errors=True)
    dcp.save(dict(tensors), checkpoint_id=directory, no_dist=True)
    torch.save(common, os.path.join(directory, "common.pt"))
    with open(os.path.join(directory, "metadata.json"), "w") as f:
        json.dump({"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch", "common_backend_version": 1}, f)


def random_hf(c, bias, generator):
    h, d, n = c["hidden_size"], c["head_dim"], c["num_attention_heads"]
    make = lambda *shape: torch.randn(*shape, generator=generator).to(torch.bfloat16)
    hf = {"model.embed_tokens.weight": make(c["vocab_size"], h), "model.norm.weight": make(h)}
    if not c["tie_word_embeddings"]: hf["lm_head.weight"] = make(c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        a = f"model.layers.{i}."
        hf |= {a + "input_layernorm.weight": make(h), a + "post_attention_layernorm.weight": make(h), a + "self_attn.o_proj.weight": make(h, n * d)}
        for name, heads in (("q", n), ("k", c["num_key_value_heads"]), ("v", c["num_key_value_heads"])):
            hf[a + f"self_attn.{name}_proj.weight"] = make(heads * d, h)
            if bias: hf[a + f"self_attn.{name}_proj.bias"] = make(heads * d)
        f = c["intermediate_size"]
        if "num_local_experts" in c:
            hf[a + "block_sparse_moe.gate.weight"] = make(c["num_local_experts"], h)
            for e in range(c["num_local_experts"]):
                hf |= {a + f"block_sparse_moe.experts.{e}.{w}.weight": make(*s) for w, s in (("w1", (f, h)), ("w2", (h, f)), ("w3", (f, h)))}
        else: hf |= {a + "mlp.gate_proj.weight": make(f, h), a + "mlp.up_proj.weight": make(f, h), a + "mlp.down_proj.weight": make(h, f)}
    return hf


def save_hf(directory, hf, c):
    os.makedirs(directory, exist_ok=True)
    save_file(hf, os.path.join(directory, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(directory, "config.json"), "w") as f: json.dump(c, f, indent=1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out"), p.add_argument("--base")
    o = p.parse_args()
    if o.base:
        c = json.load(open(os.path.join(o.base, "config.json")))
        c["rope_theta"] = c["rope_parameters"]["rope_theta"]
        rows = (c["vocab_size"] + 127) // 128 * 128 + 128
        named = megatron(load_file(os.path.join(o.base, "model.safetensors")), c, rows, True)
        it = os.path.join(o.out, "megatron/iter_0000005")
        save_dist(it, stacked(named, c), {"args": arguments(c, rows), "iteration": 5, "checkpoint_version": 3.0})
        open(os.path.join(o.out, "megatron/latest_checkpointed_iteration.txt"), "w").write("5")
        return
    g = torch.Generator().manual_seed(11)
    base = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 60, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-05, "rope_theta": 50000.0, "tie_word_embeddings": False, "hidden_act": "silu", "dtype": "bfloat16"}
    # A Llama, as torch_dist: the layers stacked, the vocabulary padded, what transformer_engine keeps beside, the step's own moments.
    c = base | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    hf = random_hf(c, False, g)
    named = megatron(hf, c, 64, True)
    tensors = stacked(named, c) | {"decoder.layers.self_attention.linear_qkv._extra_state/shard_0_2": extra_state()}
    tensors |= {"optimizer.state.exp_avg.decoder.final_layernorm.weight": torch.ones(32)}
    save_hf(os.path.join(o.out, "llama/hf"), hf, c)
    save_dist(os.path.join(o.out, "llama/megatron/iter_0000005"), tensors, {"args": arguments(c, 64), "iteration": 5, "checkpoint_version": 3.0})
    open(os.path.join(o.out, "llama/megatron/latest_checkpointed_iteration.txt"), "w").write("5")
    # The same under the names of one rank's plain file, with norms of their own.
    torch.save({"args": arguments(c, 64), "iteration": 5, "checkpoint_version": 3.0, "model": megatron(hf, c, 64, False) | {"decoder.layers.0.mlp.linear_fc1._extra_state": None}},
               os.path.join(o.out, "llama/model_optim_rng.pt"))
    # A Qwen2 with biases and a tied head, under the older names.
    c = base | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True, "head_dim": 8}
    hf = random_hf(c, True, g)
    save_hf(os.path.join(o.out, "qwen2/hf"), hf, c)
    torch.save({"args": arguments(c, 64, add_qkv_bias=True), "iteration": 5, "checkpoint_version": 3.0, "model": legacy(megatron(hf, c, 64, True))}, os.path.join(o.out, "qwen2/model_optim_rng.pt"))
    # A Mixtral as NeMo leaves it: experts stacked, names below "module", the configuration in context/model.yaml.
    c = base | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8}
    hf = random_hf(c, False, g)
    save_hf(os.path.join(o.out, "moe/hf"), hf, c)
    tensors = {"module." + k: v for k, v in stacked(megatron(hf, c, 64, False), c).items()}
    save_dist(os.path.join(o.out, "moe/nemo/weights"), tensors, {"epoch": 0, "global_step": 5})
    os.makedirs(os.path.join(o.out, "moe/nemo/context"), exist_ok=True)
    with open(os.path.join(o.out, "moe/nemo/context/model.yaml"), "w") as f:
        f.write("""_target_: nemo.collections.llm.gpt.model.mixtral.MixtralModel
config:
  _target_: nemo.collections.llm.gpt.model.mixtral.MixtralConfig
  activation_func:
    _target_: torch.nn.functional.silu
    num_layers: 99
  num_layers: 2
  hidden_size: 32
  ffn_hidden_size: 40
  num_attention_heads: 4
  num_query_groups: 2
  kv_channels: 8
  seq_length: 64
  layernorm_epsilon: 1.0e-05
  rotary_base: 50000.0
  rotary_percent: 1.0
  normalization: RMSNorm
  gated_linear_unit: true
  position_embedding_type: rope
  num_moe_experts: 3
  moe_router_topk: 2
  share_embeddings_and_output_weights: false
  vocab_size: 60
  make_vocab_size_divisible_by: 64
  window_size: null
tokenizer: null
""")


if __name__ == "__main__":
    main()
