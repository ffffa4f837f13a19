#!/usr/bin/env python3
"""This tree's program against that of another commit, on this machine (./run bench --against COMMIT).

COMMIT's source goes to build/against/COMMIT (by git archive: nothing that git would have to forget afterwards) and is
built there as a release. Then both programs run every job that bench.py times, in pairs, the order alternating from pair
to pair, with the same warm inputs, threads and durability. The ratio of a pair is of the time without the verifying
re-read, which has a column of its own. Pairs that other processes disturbed are run again. Exit code 0: no median ratio is above the limit; 1: the named rows are; 2: it
could not be measured. --small judges nothing: hundredths of a second are noise. Needs no peer.
"""
import dataclasses
import datetime
import filecmp
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import (ROOT, Bench, Failure, Side, commit, limits_line, machine, measured_limits, model_line, options, remove, say,
                   told, warm)

LIMIT = 1.05
DISTURBED = 0.1  # a pair in which other processes had more of the processors than this is run again...
MOST_TRIES = 3   # ... until there are so many times the pairs that count


def git(*words):
    p = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
    if p.returncode:
        raise Failure(f"git {' '.join(map(str, words))}: {p.stderr.strip()}")
    return p.stdout.strip()


def build_aside(name):
    """(short name, program) of a commit: its own source, its own release build, kept for the next time."""
    try:
        commit_id = git("rev-parse", "--verify", name + "^{commit}")
    except Failure as e:
        raise Failure(f"--against {name}: no commit of this repository is called so ({e})") from None
    folder = ROOT / "build" / "against" / commit_id
    source, log = folder / "source", folder / "build.log"
    if not source.exists():
        partial, archive = folder / "partial", folder / "source.tar"
        remove(partial)
        partial.mkdir(parents=True)
        git("archive", "--output", archive, commit_id)
        subprocess.run(["tar", "-xf", archive, "-C", partial], check=True)
        archive.unlink()
        partial.rename(source)
    short = git("rev-parse", "--short", commit_id)
    say(f"building {short} in {source.relative_to(ROOT)}")
    with open(log, "wb") as out:
        # INGOT_TESTS and INGOT_FUZZERS add targets; no flag of the program depends on them.
        for command in (["cmake", "--preset", "release", "-DINGOT_TESTS=OFF", "-DINGOT_FUZZERS=OFF"],
                        ["cmake", "--build", "build/release", "--target", "ingot_cli"]):
            if subprocess.run(command, cwd=source, stdout=out, stderr=out, stdin=subprocess.DEVNULL).returncode:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
                raise Failure(f"{short} does not build ({' '.join(command)}, whole log: {log}):\n{tail}")
    return short, source / "build" / "release" / "ingot"


class Others:
    """What other processes had of the processors since this was made (1: all of them, all the time)."""

    def __init__(self):
        self.start, self.before = time.perf_counter(), self.foreign()

    @staticmethod
    def foreign():
        ticks = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        busy = sum(ticks) - ticks[3] - ticks[4]  # all but idle and iowait
        own = sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return busy / os.sysconf("SC_CLK_TCK") - own

    def share(self):
        return max(0.0, (self.foreign() - self.before) / ((time.perf_counter() - self.start) * os.cpu_count()))


def quietest(pairs, count):
    """(pairs that count, how many were left out): chosen by what the others did, never by the ratio."""
    return sorted(pairs, key=lambda p: p[2])[:count], max(0, len(pairs) - count)


@dataclasses.dataclass
class Row:
    """A job by both programs: pairs of what Side.once says, the other commit's first, and the others' share meanwhile."""
    name: str
    pairs: list
    left_out: int
    same_bytes: bool

    def of(self, side):
        return [p[side] for p in self.pairs]

    def write(self, side):
        return [r["seconds"] - r["verify"] for r in self.of(side)]

    def verify(self, side):
        return statistics.median(r["verify"] for r in self.of(side))

    def peak(self, side):
        return max(r["peak_rss"] for r in self.of(side)) / 2**20

    def ratios(self):
        return [new / old for old, new in zip(self.write(0), self.write(1))]

    def ratio(self):
        return statistics.median(self.ratios())


def measure(bench, programs):
    """Yields a Row for each job chosen."""
    for name, (title, _, inputs) in bench.jobs.items():
        if not bench.chosen(name):
            continue
        label = title if not name.startswith("ship") else f"{title}, --memory {name.removeprefix('ship-')}"
        say(label)
        outs = [bench.out / f"{which}-{name}.gguf" for which in ("other", "this")]
        sides = [Side(label, [bench.ingot(name, out, program)], out) for program, out in zip(programs, outs)]
        pairs, quiet = [], 0
        while quiet < bench.args.reps and len(pairs) < bench.args.reps * MOST_TRIES:
            pair, others = [None, None], []
            for i in (0, 1) if len(pairs) % 2 == 0 else (1, 0):
                for path in (programs[i], *inputs):
                    warm(path)
                watch = Others()
                pair[i] = sides[i].once(bench.log)
                others.append(watch.share())
            pairs.append((*pair, max(others)))
            quiet += pairs[-1][2] <= DISTURBED
        row = Row(label, *quietest(pairs, bench.args.reps), filecmp.cmp(*outs, shallow=False))
        for out in outs:
            remove(out)
        say(f"  {statistics.median(row.write(0)):.2f} s and {statistics.median(row.write(1)):.2f} s: {row.ratio():.3f}")
        yield row


def verdict(rows, other):
    """(what is said, exit code)"""
    slower = [f"{r.name} ({r.ratio():.3f})" for r in rows if r.ratio() > LIMIT]
    percent = f"{(LIMIT - 1) * 100:.0f} %"
    busy = " Other processes disturbed this: measure again on a quiet machine." if disturbance(rows) > DISTURBED else ""
    if slower:
        return f"Verdict: more than {percent} slower than {other}: {'; '.join(slower)}.{busy}", 1
    return f"Verdict: none of {len(rows)} rows is more than {percent} slower than {other} (paired median, the verifying read apart).{busy}", 0


def disturbance(rows):
    return max(p[2] for r in rows for p in r.pairs)


def report(rows, other, args, limits, command):
    lines = [f"# This program against {other}", "", f"Made by `bench/against.py`; do not edit. {args.reps} pairs a row, the order alternating, inputs "
             f"warm in the page cache, {args.threads} threads each, the same fsync in the time of both. A ratio is the time of "
             f"this program by the time of {other} in one pair, without the verifying re-read of what was written, which is "
             "a column of its own. A peak RSS of about 20 MiB is this script's own (a child starts with it).", "",
             f"- Command: `{command}`",
             f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; this program: commit {commit()}; against: commit {other}",
             f"- Machine: {machine()}", model_line(args.small), limits_line(limits),
             f"- Other processes had up to {disturbance(rows):.0%} of the processors during a run that counts; "
             f"left out, as disturbed by others: {sum(r.left_out for r in rows)} pairs", "",
             f"| row | {other} s | this s | ratio, median (min to max) | verify s, {other} | this | peak RSS MiB, {other} | this | same bytes |",
             "|---|---:|---:|---|---:|---:|---:|---:|---|"]
    for r in rows:
        lines.append(f"| {r.name} | {statistics.median(r.write(0)):.2f} | {statistics.median(r.write(1)):.2f} | "
                     f"{'**' if r.ratio() > LIMIT else ''}{r.ratio():.3f}{'**' if r.ratio() > LIMIT else ''} ({min(r.ratios()):.3f} to {max(r.ratios()):.3f}) | "
                     f"{r.verify(0):.2f} | {r.verify(1):.2f} | {r.peak(0):.0f} | {r.peak(1):.0f} | {'yes' if r.same_bytes else 'NO'} |")
    return "\n".join(lines + ["", verdict(rows, other)[0]]) + (" --small: this judges nothing.\n" if args.small else "\n")


def main():
    parser = options(__doc__.splitlines()[0])
    parser.set_defaults(reps=5)
    parser.add_argument("--against", required=True, metavar="COMMIT", help="the commit whose program is the measure")
    args = parser.parse_args()
    args.no_peer = True
    bench = Bench(args)
    if not any(map(bench.chosen, bench.jobs)):
        raise Failure(f"--only {args.only}: no such row; they are {', '.join(bench.jobs)}")
    if not args.ingot.exists():
        raise Failure(f"{args.ingot} is not there; ./run build")
    other, program = build_aside(args.against)
    bench.make_model()
    bench.make_f16(program)  # one file for both, made by the commit that is the measure
    say("limits of the machine")
    limits = measured_limits(bench.dir, args.small)
    rows = list(measure(bench, (program, args.ingot)))
    text = report(rows, other, args, limits, told("./run bench", sys.argv[1:]))
    print("\n" + text)
    full = not (args.small or args.only)
    target = ROOT / "docs" / "bench-against.md" if full else args.dir / "against.md"
    target.write_text(text)
    say(f"written: {target}")
    return 0 if args.small else verdict(rows, other)[1]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, OSError, subprocess.SubprocessError) as e:
        print(f"against.py: {e}", file=sys.stderr)
        sys.exit(2)
