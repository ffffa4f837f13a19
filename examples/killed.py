"""Kills a training run again and again, and shows that its loss curve has no seam.

    python examples/killed.py --steps 200 --kills 20 --svg curve.svg

examples/train.py runs once undisturbed and once killed at random instants (SIGKILL, or SIGTERM as a spot machine sends it) and started again each time. Two curves are compared, step by step
and to the bit: the losses of the run that was never killed, and those that the killed processes wrote before they went, the repeated steps included.
"""
import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def train(folder, steps, curve):
    return subprocess.Popen([sys.executable, "-B", HERE / "train.py", "--checkpoints", folder, "--steps", str(steps), "--curve", curve], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def points(curve):
    """(step, loss) of each line; a process that is killed may leave its last one unfinished."""
    out = []
    for line in curve.read_text().split("\n") if curve.exists() else ():
        try:
            record = json.loads(line)
            out.append((record["step"], record["loss"]))
        except ValueError:
            pass
    return out


def picture(whole, lives):
    """One panel: the undisturbed curve in grey, and above it each life of the killed run in a colour of its own."""
    width, height, left, top, right, bottom = 900, 420, 60, 50, 20, 50
    last, high = whole[-1][0], max(y for _, y in whole)
    low = min(y for _, y in whole)
    x = lambda s: left + (width - left - right) * s / last
    y = lambda v: top + (height - top - bottom) * (high - v) / (high - low)
    path = lambda p: "M" + " L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in p)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{left}" y="22" font-size="15">Loss of one training run, killed {len(lives) - 1} times: each colour is a process, a dot where it went</text>',
           f'<text x="{left}" y="40" fill="#666">grey beneath: the same run, never killed</text>']
    for i in range(6):
        s, v = last * i / 5, low + (high - low) * i / 5
        out += [f'<line x1="{x(s):.1f}" x2="{x(s):.1f}" y1="{top}" y2="{height - bottom}" stroke="#eee"/><text x="{x(s):.1f}" y="{height - bottom + 18}" text-anchor="middle">{s:.0f}</text>',
                f'<line x1="{left}" x2="{width - right}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#eee"/><text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2f}</text>']
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 10}" text-anchor="middle">step</text>')
    out.append(f'<path d="{path(whole)}" fill="none" stroke="#bbb" stroke-width="5"/>')
    colours = ["#1b6ca8", "#c0392b", "#1e8449", "#7d3c98", "#b9770e"]
    for i, life in enumerate(lives):
        if life:
            out.append(f'<path d="{path(life)}" fill="none" stroke="{colours[i % len(colours)]}" stroke-width="1.5"/>')
            if i + 1 < len(lives):
                out.append(f'<circle cx="{x(life[-1][0]):.1f}" cy="{y(life[-1][1]):.1f}" r="3.5" fill="{colours[i % len(colours)]}"/>')
    return "\n".join(out + ["</svg>\n"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--kills", type=int, default=20)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--svg", type=pathlib.Path)
    args = p.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        start = time.monotonic()
        run = train(tmp / "whole", args.steps, tmp / "whole.jsonl")
        text, errors = run.communicate()
        if run.returncode:
            sys.exit(errors)
        expected, whole, took = json.loads(text), points(tmp / "whole.jsonl"), time.monotonic() - start
        lives, preempted = [], 0
        # A kill in the middle of a run is worth more than one before its first step: some of the time that a run takes.
        while True:
            curve = tmp / f"life-{len(lives)}.jsonl"
            run = train(tmp / "killed", args.steps, curve)
            kill = len(lives) < args.kills
            if kill:
                end = time.monotonic() + took
                wanted = chance.randint(1, max(2, 2 * args.steps // args.kills))  # steps of this life
                while run.poll() is None and len(points(curve)) < wanted and time.monotonic() < end:
                    time.sleep(0.005)
                if run.poll() is None:
                    run.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            text, errors = run.communicate()
            lives.append(points(curve))
            preempted += run.returncode == 75
            if run.returncode == 0:
                break
            if run.returncode not in (75, -signal.SIGKILL, -signal.SIGTERM):
                sys.exit(errors)
    of = dict(whole)
    seams = [(s, v, of[s]) for life in lives for s, v in life if v != of[s]]
    seen = [s for life in lives for s, _ in life]
    print(f"seed {args.seed}: {len(lives) - 1} kills ({preempted} heard and saved before they went), {len(seen)} steps computed for {args.steps}, {len(seen) - len(set(seen))} of them twice")
    print(f"losses that differ from the run that was never killed: {len(seams)} of {len(seen)}; weights {'the same' if json.loads(text)['weights'] == expected['weights'] else 'DIFFER'}")
    if args.svg:
        args.svg.write_text(picture(whole, lives))
        print(f"curve: {args.svg}")
    sys.exit(1 if seams or json.loads(text)["weights"] != expected["weights"] or set(seen) != set(of) else 0)


if __name__ == "__main__":
    main()
