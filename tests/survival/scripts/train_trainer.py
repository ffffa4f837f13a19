"""A tiny Llama trained by transformers' Trainer, its checkpoints by ingot; --plain: by Trainer itself. Prints a hash of the final weights."""
import argparse
import hashlib
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

p = argparse.ArgumentParser()
p.add_argument("--checkpoints", required=True)
p.add_argument("--steps", type=int, default=6)
p.add_argument("--every", type=int, default=2)
p.add_argument("--last", type=int, default=2)
p.add_argument("--acknowledged")
p.add_argument("--plain", action="store_true")
args = p.parse_args()

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(7)
model = LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=48, max_position_embeddings=16, attention_dropout=0.2))
rows = torch.randint(0, 48, (80, 12), generator=torch.Generator().manual_seed(1))
data = [{"input_ids": r, "labels": r} for r in rows]


class Told(TrainerCallback):
    """After Trainer's own save: it is synchronous; what ingot saves is waited for."""

    def on_train_begin(self, _, state, control, **kwargs):
        if args.plain and state.global_step:
            print(f"resumed at step {state.global_step}", file=sys.stderr)

    def on_save(self, _, state, control, **kwargs):
        if attached is not None:
            attached.wait()
        if args.acknowledged:
            fd = os.open(args.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(fd, b"%d\n" % state.global_step)
            os.fsync(fd)
            os.close(fd)


arguments = TrainingArguments(output_dir=args.checkpoints, per_device_train_batch_size=4, max_steps=args.steps, save_steps=args.every, save_total_limit=args.last, logging_steps=2, learning_rate=1e-2, report_to=[],
                              disable_tqdm=True, use_cpu=True)
trainer = Trainer(model, arguments, train_dataset=data, callbacks=[Told()])
attached = None
if args.plain:
    resume = get_last_checkpoint(args.checkpoints) if os.path.isdir(args.checkpoints) else None
else:
    import ingot.transformers
    attached, resume = ingot.transformers.attach(trainer), True
trainer.train(resume_from_checkpoint=resume)
weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()
print(json.dumps({"step": trainer.state.global_step, "weights": weights}))
