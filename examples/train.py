"""A small real training run that survives being killed at any instant: run it, kill it, run it again.

    python examples/train.py --checkpoints my-run --steps 200

A character model learns the text of this file, with dropout, shuffling, warm-up and gradient accumulation of two. Whatever kills it, the next run goes on at the last
checkpoint and ends with the weights, to the bit, of a run that was never killed.
"""
import argparse
import hashlib
import json
import sys

import torch

import ingot


class Model(torch.nn.Module):
    def __init__(self, vocabulary: int, width: int = 48):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.rnn = torch.nn.GRU(width, width, batch_first=True)
        self.dropout = torch.nn.Dropout(0.2)
        self.head = torch.nn.Linear(width, vocabulary)

    def forward(self, x):
        return self.head(self.dropout(self.rnn(self.embedding(x))[0]))


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--every", type=int, default=10)
    p.add_argument("--curve", help="a file to which each step's loss is appended")
    args = p.parse_args()

    torch.manual_seed(7)
    torch.set_num_threads(1)
    text = open(__file__, encoding="utf-8").read()
    letters = sorted(set(text))
    data = torch.tensor([letters.index(c) for c in text])
    windows = data.unfold(0, 33, 3)
    loader = ingot.loader(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(windows), batch_size=16, shuffle=True))
    model = Model(len(letters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 20))

    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "data": loader, "gradients": ingot.gradients(model), "rng": ingot.rng()}
    with ingot.Checkpointer(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=3)) as ck:
        step = ck.restore(state)
        while step < args.steps:
            for (batch,) in loader:
                step += 1
                loss = torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
                (loss / 2).backward()
                if step % 2 == 0:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                if args.curve:
                    with open(args.curve, "a") as f:
                        f.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
                if ck.due(step):
                    ck.save(step, state, metrics={"loss": loss.item()})
                if ck.preempted:
                    ck.save(step, state).wait()
                    sys.exit(ck.exit_code)
                if step >= args.steps:
                    break
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()
    print(json.dumps({"step": step, "loss": loss.item(), "weights": weights}))


if __name__ == "__main__":
    main()
