"""A small model of NumPy alone, trained as a user would: momentum, dropout, shuffled data, a table that never changes. Prints a hash of the final weights."""
import argparse
import hashlib
import json
import os
import time

import numpy as np

import ingot


class Batches:
    """Places in the data, shuffled anew for each epoch by NumPy's own generator."""

    def __init__(self, n, size):
        self.n, self.size, self.order, self.at = n, size, np.arange(n), n

    def next(self):
        if self.at + self.size > self.n:
            self.order, self.at = np.random.permutation(self.n), 0
        self.at += self.size
        return self.order[self.at - self.size:self.at]

    def state_dict(self):
        return {"order": self.order, "at": self.at}

    def load_state_dict(self, s):
        self.order, self.at = s["order"], s["at"]


class Dropout:
    """A generator of its own."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def __call__(self, x):
        return x * (self.generator.random(x.shape) < 0.8) / 0.8

    def state_dict(self):
        return {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, s):
        self.generator.bit_generator.state = s["generator"]


def acknowledge(path, step):
    """Durable itself before anybody counts on it."""
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
    p.add_argument("--acknowledged", help="a file to which each step is appended once its checkpoint is durable")
    p.add_argument("--tempo", type=float, default=0, help="seconds of a step")
    p.add_argument("--ahead", action="store_true", help="the loop goes on while a checkpoint is written")
    p.add_argument("--goes-on", action="store_true", help="a save that fails is told of, and the loop goes on")
    args = p.parse_args()

    np.random.seed(5)
    data = np.random.default_rng(0)
    table, x = data.standard_normal((64, 16)), data.integers(0, 64, 240)
    y = np.tanh(table @ data.standard_normal((16, 1)))[x]
    model = {"table": table, "w1": data.standard_normal((16, 24)) / 4, "w2": data.standard_normal((24, 1)) / 5}
    momentum = {k: np.zeros_like(model[k]) for k in ("w1", "w2")}
    batches, dropout = Batches(len(x), 16), Dropout(7)
    state = {"model": model, "momentum": momentum, "data": batches, "dropout": dropout, "rng": ingot.rng()}

    with ingot.Checkpointer(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=args.last, best=1, metric="val")) as ck:
        step = ck.restore(state)
        saves = []
        while step < args.steps:
            step += 1
            rows = batches.next()
            a = model["table"][x[rows]]
            h = np.tanh(a @ model["w1"])
            d = dropout(h)
            error = d @ model["w2"] - y[rows]
            gradient = {"w2": d.T @ error, "w1": a.T @ ((error @ model["w2"].T) * (1 - h * h))}
            for k, g in gradient.items():
                momentum[k] *= 0.9
                momentum[k] += g / len(rows)
                model[k] -= 0.05 * momentum[k]
            time.sleep(args.tempo)
            if ck.due(step):
                try:
                    saves.append(ck.save(step, state, metrics={"loss": float((error ** 2).mean())}))
                    if not args.ahead:
                        saves[-1].wait()
                    ck.report(step, {"val": float((error ** 2).mean())})
                except ingot.Error as e:
                    if not args.goes_on:
                        raise
                    print(f"step {step}: {e}", flush=True)
            while saves and (saves[0].done or len(saves) > 1):
                try:
                    acknowledge(args.acknowledged, saves.pop(0).wait().step)
                except ingot.Error as e:
                    if not args.goes_on:
                        raise
                    print(f"step {step}: {e}", flush=True)
    for handle in saves:
        acknowledge(args.acknowledged, handle.wait().step)
    weights = hashlib.sha256(b"".join(model[k].tobytes() for k in sorted(model))).hexdigest()
    print(json.dumps({"step": step, "weights": weights}))


main()
