"""Trains a LoRA adapter over a quantized base, survives being killed, and ends in files that llama.cpp runs.

    python examples/train_qlora.py --checkpoints my-run --out 'model-{type}.gguf'

The base is loaded in 4 bits (NF4, bitsandbytes) on a GPU, and as it is elsewhere; only the adapter is trained. A checkpoint holds the adapter as PEFT saves it, optimizer, schedule, place in the
data and generators, not the base. Killed at any instant, the next run goes on. At the end `ingot ship` merges the newest checkpoint's adapter into the base (the unquantized one) and writes GGUF.
Needs torch, transformers and peft.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import peft
import torch
import transformers

import ingot

ROOT = pathlib.Path(__file__).resolve().parent.parent


def loaded(base):
    if not torch.cuda.is_available():
        return transformers.AutoModelForCausalLM.from_pretrained(base)
    four_bits = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return peft.prepare_model_for_kbit_training(transformers.AutoModelForCausalLM.from_pretrained(base, quantization_config=four_bits, device_map={"": 0}))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--base", default=str(ROOT / "examples" / "tiny-llama-base"))
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--text", default=str(ROOT / "HACKING.md"), help="what is learned")
    p.add_argument("--steps", type=int, default=60)
    p.add_argument("--every", type=int, default=20)
    p.add_argument("--out", default="model-{type}.gguf")
    p.add_argument("--type", default="F16,Q4_K_M")
    p.add_argument("--ingot", default=shutil.which("ingot") or str(ROOT / "build" / "release" / "ingot"))
    args = p.parse_args()

    torch.manual_seed(7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.base)
    ids = torch.tensor(tokenizer(pathlib.Path(args.text).read_text(encoding="utf-8"))["input_ids"])
    windows = ids.unfold(0, 64, 32)
    loader = ingot.loader(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(windows), batch_size=4, shuffle=True))
    model = peft.get_peft_model(loaded(args.base), peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-3)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, args.steps // 10, args.steps)

    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "data": loader, "rng": ingot.rng()}
    with ingot.Checkpointer(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=2)) as ck:
        batches = None
        for step in ck.steps(args.steps, state):
            batches = batches or iter(loader)
            batch = next(batches, None)
            if batch is None:  # an epoch ends
                batches = iter(loader)
                batch = next(batches)
            tokens = batch[0].to(model.device)
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % 10 == 0 or step == 1:
                print(json.dumps({"step": step, "loss": round(loss.item(), 4)}), flush=True)
    newest = ingot.latest(args.checkpoints)
    command = [args.ingot, "ship", args.base, "--adapter", newest, "--type", args.type, "--out", args.out, "--force"]
    print("$ " + " ".join(command), flush=True)
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
