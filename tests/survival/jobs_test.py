"""Jobs that are more than one plain loop, judged as survival_test.py judges that: several ranks, and trainings by frameworks. A process is killed before, in and after calls that change their directory, and the
job is started again: 0 HARD_FAIL, 0 SILENT_DIVERGENCE, 0 LOST_WORK.

Of each kind of call the first and the last, and 20 more at random (5 in the short form, in which before, in and after take turns); the seed is printed. INGOT_LONG_SEED gives another one.
"""
import collections
import importlib.util
import os
import random
import re
import signal
import unittest

import faults
import judge
import survival_test
from faults import Faults, Job, Nursery
from survival_test import LONG, SEED, History, script, tell, wrong

PYTHON = os.environ.get("INGOT_FRAMEWORKS_PYTHON") or survival_test.TORCH  # one that has torch, and the frameworks
ACTIONS = ("kill before", "kill torn", "kill after")


def tearDownModule():
    survival_test.tearDownModule()


def has(*modules):
    """Whether that interpreter has them."""
    if not PYTHON:
        return False
    code = f"import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, {modules!r})))"
    return os.spawnv(os.P_WAIT, PYTHON, [PYTHON, "-c", code]) == 0


def points(calls, at_random, seed):
    """Numbers of calls: the first and the last of each kind, and others at random."""
    of_kind = collections.defaultdict(list)
    for c in calls:
        if c.number:
            of_kind[c.op].append(c.number)
    fixed = {n for numbers in of_kind.values() for n in (numbers[0], numbers[-1])}
    others = sorted({c.number for c in calls if c.number} - fixed)
    return sorted(fixed | set(random.Random(seed).sample(others, min(at_random, len(others)))))


class Jobs(survival_test.Judged):
    """Judged by points of their calls."""

    def size(self, runner, command):
        """Bytes of one of its checkpoints."""
        place = self.place()
        directory, told = History("", command).begin(place)
        ended = runner.run(History("", command).arguments(directory, told), Faults(os.path.join(place, "faults"), directory))
        self.assertEqual(ended.code, 0, ended.err)
        newest = max(os.listdir(directory), key=lambda n: int(n.rpartition("-")[2]) if n.startswith("checkpoint-") else -1)
        newest = os.path.join(directory, newest)
        return sum(os.path.getsize(os.path.join(newest, n)) for n in os.listdir(newest)) if os.path.isdir(newest) else os.path.getsize(newest)

    def judged(self, runners, name, command, must_pass=True, at_random=20 if LONG else 5, actions=ACTIONS):
        runner, table = runners.get(), judge.Table()
        self.assertLess(self.size(runner, command), 100_000)
        h = self.undisturbed(runner, History(name, command))
        runners.put(runner)
        numbers = points(h.calls, at_random, SEED)
        jobs = [(action, at) for k, at in enumerate([*numbers, 2 * len(h.calls)]) for action in (actions if LONG else actions[k % len(actions):][:1])]  # in the short form by turns
        survived = []

        def one(runner, job):
            action, at = job
            verdict, detail, first = self.point(runner, h, at, action)
            if verdict == "HARD_FAIL" and must_pass:
                detail += "\n" + first.err
            codes = getattr(first, "codes", None)
            if codes and first.code != 0:
                survived.append(first.survived)
                if codes.count(-signal.SIGKILL) != 1:
                    verdict, detail = "HARD_FAIL", f"the ranks ended with {codes}: {first.err}"
                elif must_pass and any(c not in (0, -signal.SIGKILL) for c in codes):  # who is left says what is wrong
                    last = wrong("\n".join(line for line in first.err.splitlines() if line.startswith(f"[rank {1 - codes.index(-signal.SIGKILL)}]")))
                    ends[re.sub(r"\[/\S*\]|\[[\d.]+\]:\d+|step \d+", "...", last)] += 1
            return verdict, f"{action} call {at} of {len(h.calls)} ({h.calls[min(at, len(h.calls)) - 1].op} {h.calls[min(at, len(h.calls)) - 1].path}): {detail}"
        ends = collections.Counter()
        for verdict, detail in self.each(runners, jobs, one):
            table.add(name, verdict, detail)
        kinds = collections.Counter(c.op for c in h.calls)
        table.print(f"{name}: {len(h.calls)} calls ({', '.join(f'{n} {k}' for k, n in kinds.most_common())}), of which {len(numbers)}, seed {SEED}, {' | '.join(actions)}"
                    + (f"; the other ranks ended by themselves within {max(survived):.1f} s" if survived else ""))
        for text, n in ends.most_common():
            tell(f"  {n:>4} x {text}")
        if must_pass:
            self.none_failed(table)
            self.assertGreater(table.count("PASS"), 0)
        self.assertGreater(table.count("ended"), 0)
        return table


@unittest.skipUnless(has("torch"), "torch is not there")
class Ranks(Jobs):
    """Two ranks and one counter: whoever makes call N is killed, the other one ends by itself, and the job is started again."""

    # What the script and torch itself import on their way, too: it would be imported anew in each child.
    MODULES = ("numpy", "numpy.ma", "zstandard", "torch", "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.nn.parallel", "ingot")

    def job(self):
        return self.runners(Job, modules=self.MODULES, python=PYTHON)

    def test_ddp(self):
        self.judged(self.job(), "two ranks, DDP", [script("train_ranks.py"), "--kind", "ddp"])

    def test_fsdp2(self):
        self.judged(self.job(), "two ranks, FSDP2", [script("train_ranks.py"), "--kind", "fsdp2"])


@unittest.skipUnless(has("torch", "transformers", "accelerate"), "transformers, accelerate or torch is not there")
class Trainer(Jobs):
    MODULES = ("numpy", "torch", "accelerate", "transformers", "transformers.trainer", "transformers.models.llama.modeling_llama", "ingot", "ingot.transformers")

    def test_attached(self):
        self.judged(self.runners(Nursery, modules=self.MODULES, python=PYTHON), "Trainer, ingot.transformers.attach", [script("train_trainer.py")])

    @unittest.skipUnless(LONG, "in the long form: it is transformers' own")
    def test_plain(self):
        """Trainer's own checkpoints by the same rule, to stand beside: what it survives is not ours to say."""
        table = self.judged(self.runners(Nursery, modules=self.MODULES, python=PYTHON), "Trainer alone", [script("train_trainer.py"), "--plain"], must_pass=False)
        self.assertGreater(table.count("HARD_FAIL"), 0)  # or this judge sees nothing


@unittest.skipUnless(has("torch", "lightning") and importlib.util.find_spec("ingot.lightning"), "lightning, torch or ingot.lightning is not there")
class Lightning(Jobs):
    MODULES = ("numpy", "torch", "torch._dynamo", "lightning.pytorch", "ingot", "ingot.lightning")

    def lightning(self, name, *options, **more):
        return self.judged(self.runners(Nursery, modules=self.MODULES, python=PYTHON), name, [script("train_lightning.py"), *options], **more)

    def test_attached(self):
        self.lightning("Lightning, ingot's cadence")

    def test_model_checkpoint(self):
        self.lightning("Lightning, ModelCheckpoint through ingot", "--model-checkpoint")

    @unittest.skipUnless(LONG, "in the long form: it is Lightning's own")
    def test_plain(self):
        self.lightning("Lightning alone", "--plain", must_pass=False)


if __name__ == "__main__":
    unittest.main()
