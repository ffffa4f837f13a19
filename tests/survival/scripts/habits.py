"""The same loop as people write it by hand, for the judge to be judged by: each habit is wrong in its own way. --habit in-place | latest-first | no-generators | torch."""
import argparse
import hashlib
import json
import os
import sys

import numpy as np


def acknowledge(path, step):
    if path:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, b"%d\n" % step)
        os.fsync(fd)
        os.close(fd)


def write(path, arrays):
    with open(path, "wb") as f:
        np.savez(f, **arrays)


def save(habit, directory, step, arrays):
    if habit == "in-place":
        write(os.path.join(directory, "state.npz"), arrays)
    elif habit == "latest-first":
        with open(os.path.join(directory, "latest"), "w") as f:
            f.write(str(step))
        write(os.path.join(directory, f"step-{step}.npz"), arrays)
    elif habit == "torch":  # a directory for each step, torch.save, a pointer that is replaced
        import torch
        folder = os.path.join(directory, f"checkpoint-{step}")
        os.makedirs(folder, exist_ok=True)
        torch.save({k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}, os.path.join(folder, "state.pt"))
        with open(os.path.join(directory, "latest.tmp"), "w") as f:
            f.write(str(step))
        os.replace(os.path.join(directory, "latest.tmp"), os.path.join(directory, "latest"))
    else:
        write(os.path.join(directory, "part.npz"), arrays)
        os.replace(os.path.join(directory, "part.npz"), os.path.join(directory, "state.npz"))


def load(habit, directory):
    if habit in ("in-place", "no-generators"):
        path = os.path.join(directory, "state.npz")
        return dict(np.load(path)) if os.path.exists(path) else None
    latest = os.path.join(directory, "latest")
    if not os.path.exists(latest):
        return None
    with open(latest) as f:
        text = f.read()
    if habit == "torch":
        import torch
        return {k: v.numpy() for k, v in torch.load(os.path.join(directory, f"checkpoint-{text}", "state.pt")).items()}
    path = os.path.join(directory, f"step-{text}.npz")
    return dict(np.load(path)) if text and os.path.exists(path) else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--habit", required=True)
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--acknowledged")
    p.add_argument("--steps", type=int, default=6)
    args = p.parse_args()
    os.makedirs(args.checkpoints, exist_ok=True)
    generator = np.random.default_rng(1)
    w, step = np.zeros((16, 4)), 0
    there = load(args.habit, args.checkpoints)
    if there is not None:
        w, step = there["w"], int(there["step"])
        if args.habit != "no-generators":
            generator.bit_generator.state = json.loads(bytes(there["generator"]).decode())
        print(f"resumed at step {step}", file=sys.stderr)
    while step < args.steps:
        step += 1
        w = 0.9 * w + generator.standard_normal(w.shape)
        if step % 2 == 0:
            state = np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8).copy()
            save(args.habit, args.checkpoints, step, {"w": w, "step": np.array(step), "generator": state})
            acknowledge(args.acknowledged, step)
    print(json.dumps({"step": step, "weights": hashlib.sha256(w.tobytes()).hexdigest()}))


main()
