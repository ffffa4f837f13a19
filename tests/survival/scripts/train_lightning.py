"""A small module trained by Lightning, its checkpoints by ingot: by ingot's cadence, or with --model-checkpoint by Lightning's own callback. --plain: Lightning alone. Prints a hash of the final weights."""
import argparse
import hashlib
import json
import logging
import os
import sys
import warnings

import torch
try:
    import lightning.pytorch as pl
except ImportError:
    import pytorch_lightning as pl

p = argparse.ArgumentParser()
p.add_argument("--checkpoints", required=True)
p.add_argument("--steps", type=int, default=6)
p.add_argument("--every", type=int, default=2)
p.add_argument("--acknowledged")
p.add_argument("--model-checkpoint", action="store_true")
p.add_argument("--plain", action="store_true")
args = p.parse_args()

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.manual_seed(7)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(24, 1))

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Told(pl.Callback):
    """One step after a save it is waited for, and acknowledged."""

    def on_train_start(self, trainer, module):
        if args.plain and trainer.global_step:
            print(f"resumed at step {trainer.global_step}", file=sys.stderr)

    def on_train_batch_end(self, trainer, *_):
        step = trainer.global_step - 1
        if step and step % args.every == 0:
            self.acknowledge(trainer, step)

    def on_fit_end(self, trainer, *_):
        self.acknowledge(trainer, trainer.global_step - trainer.global_step % args.every)

    def acknowledge(self, trainer, step):
        if not args.plain:
            trainer.strategy.checkpoint_io.wait()
        if args.acknowledged:
            fd = os.open(args.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(fd, b"%d\n" % step)
            os.fsync(fd)
            os.close(fd)


data = torch.Generator().manual_seed(1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(96, 16, generator=data), torch.randn(96, 1, generator=data)), batch_size=4, shuffle=True)
plugins, callbacks, resume = [], [Told()], None
if args.plain or args.model_checkpoint:
    callbacks.append(pl.callbacks.ModelCheckpoint(dirpath=args.checkpoints, every_n_train_steps=args.every, save_top_k=-1, save_last=True))
if args.plain:
    resume = "last"
else:
    import ingot
    from ingot.lightning import Checkpoint, CheckpointIO
    loader, resume = ingot.loader(loader), ingot.latest(args.checkpoints)
    if args.model_checkpoint:
        plugins.append(CheckpointIO())
        callbacks.append(Checkpoint())
    else:
        callbacks.append(Checkpoint(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=2)))
model = Model()
trainer = pl.Trainer(max_steps=args.steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False, plugins=plugins, callbacks=callbacks,
                     **({} if args.plain or args.model_checkpoint else {"enable_checkpointing": True}))
trainer.fit(model, loader, ckpt_path=resume)
print(json.dumps({"step": trainer.global_step, "weights": hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()}))
