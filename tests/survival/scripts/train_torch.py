"""A small model in torch, trained as a user would: AdamW, dropout, a schedule, a shuffling DataLoader, accumulated gradients. Prints a hash of the final weights."""
import argparse
import hashlib
import json
import os

import torch

import ingot


def acknowledge(path, step):
    if path:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, b"%d\n" % step)
        os.fsync(fd)
        os.close(fd)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--every", type=int, default=2)
    p.add_argument("--last", type=int, default=2)
    p.add_argument("--acknowledged")
    args = p.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(5)
    frozen = torch.nn.Embedding(32, 16)
    frozen.requires_grad_(False)
    model = torch.nn.Sequential(frozen, torch.nn.Linear(16, 24), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(24, 1))
    x = torch.randint(0, 32, (240,))
    y = torch.randn(240, 1)
    loader = ingot.loader(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True))
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 5))
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "data": loader, "gradients": ingot.gradients(model), "rng": ingot.rng()}
    with ingot.Checkpointer(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=args.last, best=1, metric="val")) as ck:
        step = ck.restore(state)
        while step < args.steps:
            for a, b in loader:
                step += 1
                loss = torch.nn.functional.mse_loss(model(a), b)
                (loss / 2).backward()
                if step % 2 == 0:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                if ck.due(step):
                    acknowledge(args.acknowledged, ck.save(step, state, metrics={"loss": loss.item()}).wait().step)
                    ck.report(step, {"val": loss.item()})
                if step >= args.steps:
                    break
    print(json.dumps({"step": step, "weights": hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()}))


main()
