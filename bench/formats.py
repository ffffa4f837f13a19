#!/usr/bin/env python3
"""Formats against their own tools, in one run (./run bench --formats): torch .bin, DCP and ZeRO to safetensors, GGUF to a
Hugging Face directory; `ingot inspect` of each; cp of the same bytes. As bench.py measures: medians, the order alternating, inputs
warm, fsync of every output in the time of both sides. What the peers' files are made of: bench/make_formats.py.
"""
import datetime
import json
import sys

import bench
from bench import Bench, Side, Step, size_of

ROWS = {  # name: (title, the peer's tool, its script in make_formats.py, input, type of output)
    "torch": ("torch .bin to safetensors", "torch.load + safetensors' save_file", "pytorch_model.bin", "safetensors"),
    "dcp": ("DCP to safetensors", "dcp_to_torch_save (writes .pt)", "dcp", "safetensors"),
    "zero2": ("ZeRO-2, two ranks, to fp32 safetensors", "zero_to_fp32.py --safe_serialization", "zero2", "directory"),
    "zero3": ("ZeRO-3, two ranks, to fp32 safetensors", "zero_to_fp32.py --safe_serialization", "zero3", "directory"),
    "gguf": ("GGUF Q8_0 to a Hugging Face directory", "transformers' gguf_file= + save_pretrained, both F16", "model-Q8_0.gguf", "directory"),
}
PEERS = bench.ROOT / "bench" / "formats_peer.py"


class Formats(Bench):
    def make_inputs(self):
        for name, (_, _, path, _) in ROWS.items():
            path = self.dir / path
            if path.exists() or not self.chosen(name):
                continue
            bench.say(f"making {path.name}")
            if name == "gguf":
                words = ["quantize", self.base, "--type", "Q8_0", "--out", path]
                bench.run([self.args.ingot, *words], self.log)
            else:
                bench.run([bench.PEER_PYTHON, bench.ROOT / "bench" / "make_formats.py", name, self.base, path], self.log)

    def half_config(self):
        """The configuration of the ZeRO files' model, which has half of the layers, beside the base's tokenizer."""
        folder = self.out / "half"
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.base.glob("*.json"):
            text = path.read_text()
            if path.name == "config.json":
                config = json.loads(text)
                config["num_hidden_layers"] //= 2
                text = json.dumps(config)
            (folder / path.name).write_text(text)
        return folder

    def format_row(self, name):
        title, peer, source, kind = ROWS[name]
        source = self.dir / source
        end = ".safetensors" if kind == "safetensors" else ""
        peer_out, out = self.out / f"peer-{name}{'.pt' if name == 'dcp' else end}", self.out / f"ingot-{name}{end}"
        # A directory of weights alone: what zero_to_fp32 makes has no configuration either; ingot's gets the model's.
        more = ["--config-from", self.half_config()] if name.startswith("zero") else ["--dtype", "f16"] if name == "gguf" else []
        words = [self.args.ingot, "convert", source, "--out", out, *more, "--memory", "128M", "--threads", self.args.threads, "--force", "--json"]
        self.row(title, Side(peer, [Step([bench.PEER_PYTHON, PEERS, name, source, peer_out], peer_out, self.peer_env)], peer_out),
                 [Side("ingot convert --memory 128M", [Step(words, out)], out),
                  Side("the same, --verify none", [Step([*words, "--verify", "none"], out)], out)], [source])
        self.inspected[source.name] = self.inspect(source)

    def inspect(self, source):
        times = []
        for _ in range(self.args.reps):
            seconds, rss, _ = bench.run([self.args.ingot, "inspect", source], self.log)
            times.append((seconds, rss))
        return sorted(t[0] for t in times)[len(times) // 2], max(t[1] for t in times)

    def run(self):
        self.inspected = {}
        self.make_model()
        self.make_inputs()
        bench.say("limits of the machine")
        self.limits = bench.measured_limits(self.dir, self.args.small)
        if self.chosen("cp"):
            source, out = self.base / "model.safetensors", self.out / "copy.safetensors"
            self.row("cp + fsync of the safetensors file", Side("cp, then fsync", [Step(["cp", "--reflink=never", source, out], out)], out), [], [source])
        for name in ROWS:
            if self.chosen(name):
                self.format_row(name)


def report(b, command):
    lines = ["# Formats beside their own tools", "", "Made by `bench/formats.py`; do not edit. One run, medians of "
             f"{b.args.reps} repetitions, order alternating, inputs warm in the page cache, {b.args.threads} threads each, fsync of every output in the time of both "
             "sides. ingot runs with `--memory 128M`; unless told otherwise its time includes reading back from the medium what it wrote, which no peer does. A peak RSS of "
             "about 20 MiB is this script's own.", "",
             f"- Command: `{command}`", f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {bench.commit()}",
             f"- Machine: {bench.machine()}", f"- Peers: {bench.versions()}", bench.model_line(b.args.small), bench.limits_line(b.limits), ""]
    lines += bench.table(b.rows, b.limits)
    lines += ["", "| `ingot inspect` of | GB | median ms | peak RSS MiB |", "|---|---:|---:|---:|"]
    for name, (seconds, rss) in b.inspected.items():
        lines.append(f"| {name} | {size_of(b.dir / name) / 1e9:.2f} | {seconds * 1e3:.0f} | {rss / 2**20:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    p = bench.options(__doc__.splitlines()[0])
    p.set_defaults(reps=5)
    args = p.parse_args()
    b = Formats(args)
    try:
        b.run()
    except bench.Failure as e:
        sys.exit(f"formats.py: {e}\n(all commands and their output: {b.log})")
    command = bench.told("./run bench --formats", sys.argv[1:])
    text = report(b, command)
    print("\n" + text)
    (args.dir / "formats.json").write_text(json.dumps({"command": command, "commit": bench.commit(), "limits": b.limits, "rows": b.rows}, indent=1))
    full = not (args.small or args.only or args.no_peer)
    target = bench.ROOT / "docs" / "bench-formats.md" if full else args.dir / "formats.md"
    target.write_text(text)
    bench.say(f"written: {target}")


if __name__ == "__main__":
    main()
