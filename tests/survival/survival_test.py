"""What a training run and its checkpoints survive, looked at from outside: whole scripts under fault_shim.cc, killed, stopped and failed at each call that changes their directory, and started again.

The short form runs in the tests; INGOT_SURVIVAL=long has every call, new interpreters, torch where it is there, 500 rounds of kills and 1,000 saves, and is what ./run test-long
writes into docs/logs/survival.txt.
"""
import collections
import concurrent.futures
import importlib.util
import itertools
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

import numpy as np

import faults
import ingot
import judge
from faults import Faults, Nursery, Programs, Scripts

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = os.environ.get("INGOT_SURVIVAL") == "long"
SEED = int(os.environ.get("INGOT_LONG_SEED", "1"))
# An interpreter that has torch: this one, or the one that ./run made.
TORCH = sys.executable if importlib.util.find_spec("torch") else os.environ.get("INGOT_TORCH_PYTHON", "")
WORKERS = min(2, os.cpu_count() or 1)
MEMORY = "/dev/shm"  # where nothing waits for a disk; what a kill leaves is the same there

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one interpreter forks many: it has no threads
os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)


def script(name):
    return os.path.join(HERE, "scripts", name)


def tell(text):
    print(f"survival: {text}", file=sys.stderr, flush=True)


def wrong(err):
    """The last line of a traceback: what a user reads."""
    lines = [line for line in err.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


_scratch = tempfile.TemporaryDirectory(prefix="ingot-survival-")
_runners = {}  # they serve all tests


def tearDownModule():
    for rs in _runners.values():
        for r in rs:
            r.close()
    _scratch.cleanup()


@unittest.skipUnless(faults.SHIM and os.path.exists(faults.SHIM), "fault_shim is not built")
class Case(unittest.TestCase):
    def setUp(self):
        in_memory = os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > 1 << 30 and not LONG
        self.tmp = os.path.realpath(tempfile.mkdtemp(prefix="ingot-survival-", dir=MEMORY if in_memory else None))
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)
        self._n = itertools.count()

    def runners(self, kind=Nursery, **options):
        """As many as there are workers, in a queue."""
        key = (kind, *sorted(options.items()))
        if key not in _runners:
            _runners[key] = [kind(_scratch.name, **options) for _ in range(WORKERS)]
        q = queue.Queue()
        for r in _runners[key]:
            q.put(r)
        return q

    def place(self):
        path = os.path.join(self.tmp, f"p{next(self._n)}")
        os.mkdir(path)
        return path

    def none_failed(self, table):
        if table.failures:
            self.fail("\n".join([f"{len(table.failures)}:", *(f[:2000] for f in table.failures[:40])]))

    def each(self, runners, jobs, one):
        """one(runner, job) for all jobs, WORKERS at a time; what they return, in order."""
        def with_runner(job):
            r = runners.get()
            try:
                return one(r, job)
            finally:
                runners.put(r)
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(with_runner, jobs))


class History:
    """A script, a directory that it begins with, and what that file system has."""

    def __init__(self, name, command, template=None, refuse=0):
        self.name, self.command, self.template, self.refuse = name, command, template, refuse
        self.weights = None  # of the run that nothing stopped
        self.calls = []      # and what it called

    def begin(self, place):
        directory = os.path.join(place, "run")
        if self.template:
            shutil.copytree(self.template, directory, symlinks=True)
        return directory, os.path.join(place, "acknowledged")

    def arguments(self, directory, acknowledged):
        return [*self.command, "--checkpoints", directory, "--acknowledged", acknowledged]


class Judged(Case):
    maxDiff = None

    def undisturbed(self, runner, history):
        place = self.place()
        directory, told = history.begin(place)
        f = Faults(os.path.join(place, "faults"), directory, refuse=history.refuse)
        ended = runner.run(history.arguments(directory, told), f)
        self.assertEqual(ended.code, 0, ended.err)
        history.weights, history.calls = judge.result(ended.out), f.calls()
        self.assertIsNotNone(history.weights, ended.out)
        shutil.rmtree(place)
        return history

    def point(self, runner, history, at, action, error="EIO", lasting=False):
        """(verdict, what there is to tell, what the first run ended with)."""
        place = self.place()
        directory, told = history.begin(place)
        command = history.arguments(directory, told)
        first = runner.run(command, Faults(os.path.join(place, "faults"), directory, at, action, error, lasting, history.refuse))
        try:
            if first.code == 0:
                return ("ended" if judge.result(first.out) == history.weights else "SILENT_DIVERGENCE"), "", first
            if first.code == "hang":
                return "HARD_FAIL", "it hangs: " + wrong(first.err), first
            if first.code != -signal.SIGKILL and action.startswith("kill"):
                return "HARD_FAIL", f"exit code {first.code}: {first.err}", first
            there_was = max(judge.acknowledged(told), max(judge.steps_whole(directory), default=0))
            again = Faults(os.path.join(place, "faults"), directory, refuse=history.refuse)
            second = runner.run(command, again)
            verdict = judge.classify(second.code != 0, judge.result(second.out) == history.weights, judge.resumed_from(second.err), there_was)
            detail = f"exit code {second.code}, resumed from {judge.resumed_from(second.err)} of {there_was}: {wrong(second.err)}"
            left = leftovers(directory)
            if left and verdict == "PASS" and any("lease.json" in c.path + c.to for c in again.calls()):  # one that had nothing to save takes nothing over, whatever directories it makes sure of
                return "LEFTOVER", f"nobody removes {left}", first
            return verdict, detail, first
        finally:
            shutil.rmtree(place)

    def matrix(self, runners, table, history, actions, every=1):
        """Each action at call 1, 1 + every, ... until a run ends that nothing stopped. Call numbers are of all threads: they differ a little from run to run."""
        over = collections.Counter()

        def one(runner, job):
            action, at = job
            if over[action] >= WORKERS:
                return None
            verdict, detail, _ = self.point(runner, history, at, action)
            over[action] += verdict == "ended"
            return f"{action} call {at}", verdict, detail
        jobs = [(action, at) for action in actions for at in [*range(1 + actions.index(action) % every, len(history.calls) * 5 // 4 + 10, every), 2 * len(history.calls) + 10]]
        for outcome in self.each(runners, jobs, one):
            if outcome is not None:
                table.add(history.name, outcome[1], f"{outcome[0]}: {outcome[2]}")
        for action in actions:
            self.assertGreater(over[action], 0, f"{history.name}: no run came to its end with '{action}'")

    def torn_directory(self, runner, history, refuse):
        """What a killed run left: the newest whole one then damaged, one that was being written beside it."""
        place = self.place()
        directory, told = history.begin(place)
        at = len(history.calls) * 7 // 10
        ended = runner.run(history.arguments(directory, told), Faults(os.path.join(place, "faults"), directory, at, "kill torn", refuse=refuse))
        self.assertEqual(ended.code, -signal.SIGKILL, ended.err)
        newest = max(judge.steps_whole(directory))
        flip(os.path.join(directory, f"checkpoint-{newest}", "momentum.safetensors" if "numpy" in history.command[0] else "optimizer.safetensors"), 0.9)
        self.assertNotIn(newest, judge.steps_whole(directory))
        return directory

    def histories(self, runner, name):
        """Of a script: from nothing, and from what a killed run left; where directories can be renamed, and where they cannot."""
        out = []
        for refuse, where in ((0, ""), (faults.NO_RENAME, ", no renames")):
            fresh = self.undisturbed(runner, History(f"{name} from nothing{where}", [script(name)], refuse=refuse))
            after = History(f"{name} after a kill{where}", [script(name)], self.torn_directory(runner, fresh, refuse), refuse)
            out += [fresh, self.undisturbed(runner, after)]
            self.assertEqual(fresh.weights, after.weights)
        return out


def leftovers(directory):
    """Hidden names; what a probe was killed over is removed by one that comes ten minutes later."""
    return [n for n in os.listdir(directory) if n.startswith(".") and not n.startswith(".ingot-probe-")] if os.path.isdir(directory) else []


def flip(path, at):
    """One bit, at that part of the file."""
    with open(path, "r+b") as f:
        size = os.path.getsize(path)
        f.seek(min(int(size * at), size - 1))
        b = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([b[0] ^ 1]))


class Judge(Judged):
    """Killed before, in and after calls of a whole run, and started again: 0 HARD_FAIL, 0 SILENT_DIVERGENCE, 0 LOST_WORK."""

    def judge(self, kind, name, every, **options):
        runners, table = self.runners(kind, **options), judge.Table()
        runner = runners.get()
        histories = self.histories(runner, name)
        runners.put(runner)
        for h in histories:
            self.matrix(runners, table, h, ["kill before", "kill torn", "kill after"] if LONG else ["kill before", "kill torn"], every)
        table.print(f"killed at {'each' if every == 1 else f'every {every}th'} call of {', '.join(str(len(h.calls)) for h in histories)}")
        self.none_failed(table)

    def test_numpy(self):
        self.judge(Nursery, "train_numpy.py", 1 if LONG else 17)

    @unittest.skipUnless(TORCH, "torch is not there")
    def test_torch(self):
        self.judge(Nursery, "train_torch.py", 1 if LONG else 40, modules=("numpy", "torch", "ingot"), python=TORCH)

    def test_new_interpreters(self):
        runners, table = self.runners(Scripts), judge.Table()
        runner = runners.get()
        h = self.undisturbed(runner, History("train_numpy.py from nothing", [script("train_numpy.py")]))
        runners.put(runner)
        self.matrix(runners, table, h, ["kill before"], 1 if LONG else len(h.calls) // 3)
        table.print("new interpreters")
        self.none_failed(table)

    def test_one_file(self):
        runners, table = self.runners(), judge.Table()
        runner = runners.get()
        h = self.undisturbed(runner, History("ingot.save", [script("save_file.py")]))
        runners.put(runner)
        self.matrix(runners, table, h, ["kill before", "kill torn", "kill after"], 1 if LONG else 7)
        table.print("ingot.save of one file")
        self.none_failed(table)

    def test_prune(self):
        """The program, killed at each call: the checkpoints that it keeps are whole, and the next one ends as one that was not killed."""
        programs, table = self.runners(Programs), judge.Table()
        place = self.place()
        template = os.path.join(place, "run")
        with ingot.Checkpointer(template, signals=False) as ck:
            for step in range(1, 7):
                ck.save(step, {"a": np.full(100, step), "same": np.arange(50)}).wait()
        prune = lambda directory: [os.environ["INGOT_PROGRAM"], "checkpoint", "prune", directory, "--last", "2", "--quiet"]
        whole = judge.steps_whole(template)

        def one(program, job):
            action, at = job
            place = self.place()
            directory = os.path.join(place, "run")
            shutil.copytree(template, directory)
            f = Faults(os.path.join(place, "faults"), directory, at, action)
            first = program.run(prune(directory), f)
            kept = judge.steps_whole(directory)
            second = program.run(prune(directory))
            last = judge.steps_whole(directory)
            ok = {5, 6} <= set(kept) and all(kept[s] == whole[s] for s in kept) and second.code == 0 and set(last) == {5, 6} and sorted(os.listdir(directory)) == sorted(left)
            shutil.rmtree(place)
            return f"{action} call {at}", ("ended" if first.code == 0 else "PASS") if ok and first.code in (0, -9) else "HARD_FAIL", f"{first} {second} {sorted(kept)} {sorted(last)}"
        place = self.place()
        directory = os.path.join(place, "run")
        shutil.copytree(template, directory)
        f = Faults(os.path.join(place, "faults"), directory)
        program = programs.get()
        self.assertEqual(program.run(prune(directory), f).code, 0)
        programs.put(program)
        left = os.listdir(directory)
        self.assertEqual(sorted(judge.steps_whole(directory)), [5, 6])
        for label, verdict, detail in self.each(programs, [(a, n) for a in ("kill before", "kill after") for n in range(1, f.count() + 2, 1 if LONG else 2)], one):
            table.add("ingot checkpoint prune", verdict, f"{label}: {detail}")
        table.print("the program")
        self.none_failed(table)
        self.assertGreater(table.count("PASS"), 10)


class JudgeOfTheJudge(Judged):
    """Loops that are wrong in known ways are found to be."""

    def habit(self, habit, every=1, **options):
        runners, table = self.runners(**options), judge.Table()
        runner = runners.get()
        h = self.undisturbed(runner, History(habit, [script("habits.py"), "--habit", habit]))
        runners.put(runner)
        self.matrix(runners, table, h, ["kill before", "kill torn"], every)
        table.print(f"by hand: {habit}")
        return table

    def test_written_in_place(self):
        self.assertGreater(self.habit("in-place", 1 if LONG else 5).count("HARD_FAIL"), 0)

    def test_latest_written_first(self):
        t = self.habit("latest-first", 1 if LONG else 3)
        self.assertGreater(t.count("LOST_WORK"), 0)
        self.assertGreater(t.count("HARD_FAIL"), 0)

    def test_no_generators(self):
        self.assertGreater(self.habit("no-generators", 1 if LONG else 5).count("SILENT_DIVERGENCE"), 0)

    @unittest.skipUnless(LONG and TORCH, "torch, in the long form")
    def test_torch(self):
        self.habit("torch", modules=("numpy", "torch"), python=TORCH)  # for the log: which of them fail is torch's matter


class Calls(Judged):
    """What the shim sees is all that is done, and what the fault-injecting store counts."""

    # What the system calls of a store's operation may be; the first group must be there.
    OPERATIONS = {
        "store.create": ({"open"}, {"fallocate", "ftruncate", "unlink"}),
        "store.change": ({"open"}, set()),
        "store.write": ({"pwrite"}, set()),
        "store.truncate": ({"ftruncate"}, set()),
        "store.sync": ({"fsync", "fdatasync"}, set()),
        "store.complete": (set(), set()),
        "store.copy_access": (set(), {"open", "chmod", "chown", "setxattr"}),
        "store.make_directory": ({"mkdir"}, set()),
        "store.rename": ({"rename"}, {"link", "unlink"}),
        "store.exchange": ({"rename"}, set()),
        "store.link": ({"link"}, set()),
        "store.abandon": (set(), set()),
        "store.set_note": ({"setxattr"}, set()),
        "store.remove": (set(), {"unlink", "rmdir"}),  # nothing where nothing is there
        "store.sync_directory": ({"fsync"}, set()),
    }
    # Of no operation: a descriptor is closed when its last holder goes; a hint.
    ANYWHERE = {"close", "sync_file_range"}

    def history_calls(self):
        place = self.place()
        directory = os.path.join(place, "run")
        f = Faults(os.path.join(place, "faults"), directory)
        ended = Programs(self.tmp).run([os.environ["INGOT_HISTORY"], directory], f)
        self.assertEqual(ended.code, 0, ended.err)
        return directory, f.calls()

    def test_the_fault_store_counts_what_the_system_is_asked(self):
        """Each call belongs to the operation of its thread that was noted before it, in kind and by its file; each operation has its calls."""
        directory, calls = self.history_calls()
        threads = collections.defaultdict(list)
        for c in calls:
            threads[c.tid].append(c)
        operations = collections.Counter()
        past = []
        for tid, rows in threads.items():
            operation, seen = None, set()

            def end():
                if operation is not None:
                    must, _ = self.OPERATIONS[operation.op]
                    self.assertTrue(not must or must & seen, f"{operation.op} {operation.path}: the system was asked nothing of {must}, but {seen}")
            for c in rows:
                if c.number == 0:
                    end()
                    operation, seen = c, set()
                    operations[c.op] += 1
                    continue
                self.assertTrue(c.done, c)
                if c.op in self.ANYWHERE:
                    continue
                must, may = self.OPERATIONS[operation.op] if operation else (set(), set())
                of = operation and operation.path
                at = [p for p in (c.path, c.to) if p]
                mine = c.op in must | may and any(p == of or p.startswith(of + "/") or (c.op == "mkdir" and of.startswith(p)) for p in at)
                if mine:
                    seen.add(c.op)
                else:
                    past.append(c)
            end()
        # Past the store: what finds out what the file system does, and makes the directory for it.
        # And locks, which hold nothing and are let go by the system when their process ends.
        probe = [c for c in past if ".ingot-probe-" in c.path or c.path.endswith(".ingot-lock") or (c.op == "mkdir" and c.path == directory)]
        rest = [f"{c.op} {c.path} {c.to}" for c in past if c not in probe]
        self.assertEqual("\n".join(rest), "")
        tell(f"{sum(operations.values())} operations of the fault store ({', '.join(f'{n} {k[6:]}' for k, n in sorted(operations.items()))}) are {sum(c.number > 0 for c in calls)} calls, "
             f"of which {len(probe)} of the probe and of locks")
        self.assertGreater(operations["store.link"], 0)
        self.assertGreater(operations["store.remove"], 0)

    def test_a_python_run_makes_the_same_calls(self):
        """By the part that a file plays: the calls on it, in their order."""
        runner = self.runners().get()
        run = self.undisturbed(runner, History("", [script("train_numpy.py")]))
        directory, calls = self.history_calls()
        python, store = roles(run.calls), roles([c for c in calls if c.number])
        self.assertEqual({k: v for k, v in python.items() if v != store.get(k)}, {k: store.get(k) for k, v in python.items() if v != store.get(k)})
        self.assertEqual(set(python), set(store))
        tell(f"a Python run: {len(run.calls)} calls in {sum(map(len, python.values()))} orders of {len(python)} parts, those of the fault store's run")

    def test_nothing_is_done_past_the_shim(self):
        """Names and sizes as the calls leave them are those of the directory; and the engine imports no call that changes files but the shim's."""
        place = self.place()
        directory = os.path.join(place, "run")
        h = History("", [script("train_numpy.py")])
        f = Faults(os.path.join(place, "faults"), directory)
        ended = Scripts(self.tmp).run(h.arguments(directory, os.path.join(place, "acknowledged")), f)
        self.assertEqual(ended.code, 0, ended.err)
        there = {os.path.relpath(os.path.join(root, n), directory): os.path.getsize(os.path.join(root, n)) for root, _, names in os.walk(directory) for n in names}
        self.assertEqual(replay(f.calls(), directory), there)
        symbols = lambda file, which: {line.split()[-1].split("@")[0] for line in subprocess.run(["nm", "-D", which, file], capture_output=True, text=True, check=True).stdout.splitlines()}
        seen = symbols(faults.SHIM, "--defined-only")
        changes = re.compile(r"_*(open|openat|creat|fopen|freopen|fdopen|write|pwrite|writev|pwritev|ftruncate|truncate|fallocate|posix_fallocate|fsync|fdatasync|sync|syncfs|sync_file_range|link|linkat|symlink|symlinkat|"
                             r"rename|renameat|renameat2|unlink|unlinkat|remove|rmdir|mkdir|mkdirat|mknod|mkfifo|mkstemp|mkdtemp|mkostemp|tmpfile|copy_file_range|sendfile|splice|vmsplice|tee|[lf]?setxattr|[lf]?removexattr|"
                             r"ioctl|syscall|io_uring_\w+|aio_write\w*|chmod|fchmod|fchmodat|chown|fchown|lchown|fchownat|msync)(64)?(v2|_2)?")
        for file in (os.environ["INGOT_PROGRAM"], ingot._ingot.__file__):
            used = {s for s in symbols(file, "--undefined-only") if changes.fullmatch(s)}
            tell(f"{os.path.basename(file)} imports {len(used)} calls that change files: {', '.join(sorted(used))}")
            self.assertEqual(used - seen, set(), f"{file} changes files past the shim")
            self.assertIn("fsync", used)


def roles(calls):
    """{part that a file plays: the orders of calls on one such file}."""
    files = collections.defaultdict(list)
    for c in calls:
        for path in filter(None, (c.path, c.to if c.op in ("rename", "link") else "")):
            if ".ingot-probe-" not in path:
                files[path].append(c.op if path == c.path else c.op + " to")
    out = collections.defaultdict(set)
    for path, ops in files.items():
        role = re.sub(r"^.*?/run(?=/|$)", "run", path)
        role = re.sub(r"checkpoint-\d+", "checkpoint-N", re.sub(r"ingot-[0-9a-f]+", "ingot-KEY", role))
        role = re.sub(r"[\w-]+\.safetensors$", "TENSORS", role)
        if role.endswith("TENSORS") or role == "run" or "metrics" in role:
            out[role] |= set(ops)  # written or linked to, one or several, as it comes
        else:
            out[role].add(tuple(ops))
    return dict(out)


def replay(calls, root):
    """{name: size} of the files that these calls leave, had there been nothing before."""
    names, sizes, inode = {}, {}, itertools.count()

    def under(path):
        return [n for n in names if n == path or n.startswith(path + "/")]

    def put(path, end):
        sizes[names[path]] = max(sizes[names[path]], end)
    for c in sorted((c for c in calls if c.number and c.result >= 0), key=lambda c: c.number):
        if c.op == "open" and c.path not in names:
            names[c.path] = next(inode)
            sizes[names[c.path]] = 0
        elif c.op == "open" and c.size & os.O_TRUNC:
            sizes[names[c.path]] = 0
        elif c.op == "pwrite":
            put(c.path, c.offset + c.result)
        elif c.op == "write" and c.path in names:
            put(c.path, sizes[names[c.path]] + c.result)
        elif c.op == "fallocate":
            put(c.path, c.offset + c.size)
        elif c.op == "ftruncate":
            sizes[names[c.path]] = c.size
        elif c.op == "link":
            names[c.to] = names[c.path]
        elif c.op == "rename" and c.size & 2:  # both change places
            a, b = {n[len(c.path):]: names.pop(n) for n in under(c.path)}, {n[len(c.to):]: names.pop(n) for n in under(c.to)}
            names.update({c.to + k: v for k, v in a.items()})
            names.update({c.path + k: v for k, v in b.items()})
        elif c.op == "rename":
            moved = {c.to + n[len(c.path):]: names.pop(n) for n in under(c.path)}
            names.update(moved)
        elif c.op == "unlink":
            names.pop(c.path, None)
    return {os.path.relpath(n, root): sizes[i] for n, i in names.items()}


class FaultOnce(Judged):
    """Each call fails once: the run goes on and ends as it would have, or stops with one error that says what and where, and its next start goes on."""

    def fail_everywhere(self, runners, table, history, errors, every, lasting=False, extra=()):
        told = collections.Counter()

        def one(runner, job):
            error, at = job
            action = "short" if error == "short" else "fail"
            verdict, detail, first = self.point(runner, history, at, action, "EIO" if error == "short" else error, lasting)
            if first.code not in (0, 1):
                return job, "HARD_FAIL", f"exit code {first.code}: {first.err}", ""
            last = wrong(first.err)
            if first.code == 1 and (not re.match(r"ingot\.\S*(Error|BadInput): ", last) or "Traceback" in last or first.err.count("Traceback (most") != 1):
                return job, "HARD_FAIL", f"not one clear error: {first.err}", last
            return job, verdict, detail, last
        most = len(history.calls) + 5
        jobs = [(error, at) for i, error in enumerate(errors) for at in range(1 + i % every, most, every)]
        for (error, at), verdict, detail, last in self.each(runners, jobs, one):
            table.add(f"{history.name}, {error}{' for good' if lasting else ''}", verdict, f"call {at}: {detail}")
            if verdict == "PASS":
                told[re.sub(r"\S*/\S*|\d+", "...", last)] += 1
        return told

    def test_each_call(self):
        runners, table = self.runners(), judge.Table()
        runner = runners.get()
        histories = self.histories(runner, "train_numpy.py")
        goes_on = self.undisturbed(runner, History("train_numpy.py --goes-on", [script("train_numpy.py"), "--goes-on"]))
        runners.put(runner)
        errors, told = ("EIO", "ENOSPC", "EINTR", "EDQUOT", "short"), collections.Counter()
        for h in [*histories, goes_on]:
            told += self.fail_everywhere(runners, table, h, errors if LONG else errors[:3] + errors[4:], 1 if LONG else 60)
        # A disk that is full, or gone, stays so.
        for error in ("ENOSPC", "EIO"):
            told += self.fail_everywhere(runners, table, histories[0], [error], 1 if LONG else 90, lasting=True)
        table.print("each call fails once")
        if LONG:
            for text, n in told.most_common():
                tell(f"  {n:>5} x {text}")
        self.none_failed(table)
        self.assertGreater(table.count("ended"), 0)
        self.assertGreater(table.count("PASS"), 0)


class Kills(Judged):
    """One directory, a run that is killed at random instants again and again: each start goes on at what was acknowledged or later, and the weights are those of a run never killed."""

    def test_rounds(self):
        rounds = int(os.environ.get("INGOT_ROUNDS", "500" if LONG else "12"))
        choose, scripts = random.Random(SEED), Scripts(self.tmp)
        directory, told = os.path.join(self.tmp, "run"), os.path.join(self.tmp, "acknowledged")
        base = [script("train_numpy.py"), "--checkpoints", directory, "--acknowledged", told, "--last", "3"]
        went_on, gained, lost, started = 0, 0, [], time.monotonic()
        for k in range(rounds):
            least = judge.acknowledged(told)
            fast = k % 2 == 0  # a save with each step and the loop ahead of it; or with every fifth, and waited for
            p = scripts.start(base + ["--steps", "1000000"] + (["--every", "1", "--ahead"] if fast else ["--every", "5", "--tempo", "0.002"]))
            # Sometimes while it starts, mostly at work.
            if choose.random() < 0.2:
                time.sleep(choose.uniform(0, 0.5))
            else:
                end = time.monotonic() + 60
                while not p.told("resumed at", "fresh start") and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(choose.choice((choose.uniform(0, 0.05), choose.uniform(0, 0.5))))
            os.kill(p.pid, signal.SIGKILL)
            ended = p.wait()
            self.assertEqual(ended.code, -signal.SIGKILL, ended.err)
            if "resumed at" in ended.err or "fresh start" in ended.err:
                went_on += 1
                if judge.resumed_from(ended.err) < least:
                    lost.append(f"round {k}: resumed from {judge.resumed_from(ended.err)}, {least} was acknowledged")
                self.assertNotIn("damaged", ended.err)
            gained += judge.acknowledged(told) > least
        steps = judge.acknowledged(told) + 5
        last = scripts.run(base + ["--steps", str(steps), "--every", "5"], seconds=300)
        self.assertEqual(last.code, 0, last.err)
        alone = scripts.run([script("train_numpy.py"), "--checkpoints", os.path.join(self.tmp, "alone"), "--steps", str(steps), "--every", "1000000"], seconds=600)
        same = judge.result(last.out) == judge.result(alone.out)
        linked = sum(os.stat(os.path.join(root, n)).st_nlink > 1 for root, _, names in os.walk(directory) for n in names)
        left = leftovers(directory)
        tell(f"{rounds} kills in {time.monotonic() - started:.0f} s, seed {SEED}: {went_on} starts came as far as a resume, {gained} rounds were told of a durable step, {len(lost)} lost one; {steps} steps, "
             f"weights {'as' if same else 'NOT as'} of a run never killed; {linked} files with links, {len(left)} leftovers")
        self.assertEqual(lost, [])
        self.assertTrue(same)
        self.assertEqual(left, [])
        self.assertGreater(gained, 0)


class Growth(Case):
    """Saves without end: memory, descriptors and threads stay what they were."""

    SCRIPT = """
import json, os, sys, numpy as np, ingot
n, early, size = map(int, sys.argv[2:])
def seen():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {"rss": int(status["VmRSS"].split()[0]) >> 10, "threads": int(status["Threads"]), "descriptors": len(os.listdir("/proc/self/fd"))}
state = {"model": {f"w{i}": np.zeros(size // 16, np.float32) for i in range(4)}, "still": np.ones(1000)}
before = seen()
ck = ingot.Checkpointer(sys.argv[1], keep=ingot.Keep(last=2))
out = {"before": before}
for step in range(1, n + 1):
    for w in state["model"].values():
        w[step % len(w)] += 1
    handle = ck.save(step, state, metrics={"loss": 1 / step})
    if step % 3 == 0:
        ck.report(step, {"val": 1 / step})
    if step in (early, n):
        ck.wait()
        out[f"at {step}"] = seen()
ck.close()
out["closed"] = seen()
print(json.dumps(out))
"""

    def test_saves_without_end(self):
        n, early, size = (1000, 100, 64 << 20) if LONG else (150, 50, 1 << 20)
        path = os.path.join(self.tmp, "script.py")
        with open(path, "w") as f:
            f.write(self.SCRIPT)
        start = time.monotonic()
        ended = Scripts(self.tmp).run([path, os.path.join(self.tmp, "run"), str(n), str(early), str(size)], seconds=1800)
        self.assertEqual(ended.code, 0, ended.err)
        out = json.loads(ended.out)
        first, last = out[f"at {early}"], out[f"at {n}"]
        tell(f"{n} saves of {size >> 20} MB in {time.monotonic() - start:.0f} s: " + "; ".join(f"{k}: {v['rss']} MB, {v['threads']} threads, {v['descriptors']} descriptors" for k, v in out.items()))
        self.assertLessEqual(abs(last["rss"] - first["rss"]), 8)
        self.assertEqual((last["threads"], last["descriptors"]), (first["threads"], first["descriptors"]))
        self.assertEqual((out["closed"]["threads"], out["closed"]["descriptors"]), (out["before"]["threads"], out["before"]["descriptors"]))


class Zombie(Judged):
    """A process is stopped before some call, another one takes over and saves on, the first one wakes up: it damages nothing and ends with one error."""

    def wake(self, runner, history, at, second_command, table):
        place = self.place()
        directory, told = history.begin(place)
        stop = Faults(os.path.join(place, "faults"), directory, at, "stop", refuse=history.refuse)
        rest = Faults(os.path.join(place, "faults2"), directory, refuse=history.refuse)
        zombie = runner.start(history.arguments(directory, told), stop)
        try:
            asleep, before = zombie.wait(), self.lease(directory)
            if asleep.code != "stopped":
                return "ended", asleep.err
            # The other one makes a checkpoint of each step, up to where the first one may be.
            second = runner.run([*second_command, "--checkpoints", directory, "--acknowledged", told], rest)
            if second.code != 0:
                zombie.go_on()
                zombie.wait()
                return "HARD_FAIL", f"the second process: {second.err}"
            there, promised, lease = judge.steps_whole(directory), judge.acknowledged(told), self.lease(directory)
            where = [c.op + " " + c.path for c in stop.calls()][-1]
            zombie.go_on()
            end = zombie.wait()
            now = judge.steps_whole(directory)
            replaced = "has taken over" in wrong(end.err) and end.err.count("Traceback (most") == 1
            if lease == before:
                return "ended", "the second process had nothing to save: nobody was replaced"
            if not (end.code == 1 and replaced) and end.code != 0:
                return "HARD_FAIL", f"{where}: the zombie ended with {end.code}: {end.err}"
            hurt = [s for s in there if now.get(s) != there[s]]
            if self.lease(directory) != lease:
                hurt.append("the lease")
            third = runner.run(history.arguments(directory, told), rest)
            verdict = judge.classify(third.code != 0, judge.result(third.out) == history.weights, judge.resumed_from(third.err), promised)
            if hurt and verdict == "PASS":
                verdict = "LOST_WORK"
            table["told" if end.code == 1 else "ended by itself"] += 1
            return verdict, f"{where}: resumed from {judge.resumed_from(third.err)} of {promised}, hurt {hurt}; the zombie ended with {end.code}: {wrong(end.err)}; {wrong(third.err)}"
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @staticmethod
    def lease(directory):
        try:
            with open(os.path.join(directory, "lease.json")) as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def test_wakes_up_anywhere(self):
        runners, table, ends = self.runners(), judge.Table(), collections.Counter()
        for refuse, where in ((0, ""), (faults.NO_RENAME, ", no renames")):
            runner = runners.get()
            h = self.undisturbed(runner, History(f"a zombie{where}", [script("train_numpy.py")], refuse=refuse))
            runners.put(runner)
            for until in ((4, 6, 8, 10) if LONG else (6, 10)):
                second = [script("train_numpy.py"), "--steps", str(until), "--every", "1"]
                jobs = range(1, len(h.calls) + 1, 1 if LONG else 31)
                for at, (verdict, detail) in zip(jobs, self.each(runners, jobs, lambda r, at: self.wake(r, h, at, second, ends))):
                    table.add(f"{h.name}, the second one until step {until}", verdict, f"stopped before call {at}: {detail}")
        table.print(f"zombies, of which {ends['told']} ended with the error, {ends['ended by itself']} had nothing left to do there")
        self.none_failed(table)
        self.assertGreater(ends["told"], 0)


class FlippedBits(Case):
    """One bit of any file of a checkpoint: a resume finds it, tells of it, and goes on from the one before; or the file says nothing that a resume believes."""

    def state(self, n):
        return {"model": {"w": np.full(700, n, np.float32), "b": np.arange(3.0) * n}, "optimizer": {"m": np.full(9, n), "lr": 0.1 * n}, "n": n, "rng": ingot.rng()}

    def test_every_file(self):
        directory = os.path.join(self.tmp, "run")
        files = os.path.join(self.tmp, "config")
        os.mkdir(files)
        with open(os.path.join(files, "config.json"), "w") as f:
            f.write('{"model_type": "none"}')
        with ingot.Checkpointer(directory, signals=False, model_files=files) as ck:
            for n in (1, 2, 3):
                ck.save(n, self.state(n), metrics={"loss": 1.0 / n}).wait()
            ck.wait()
            ck.report(3, {"val": 0.25})
        flips = collections.Counter()
        newest = os.path.join(directory, "checkpoint-3")
        places = [os.path.join(newest, n) for n in sorted(os.listdir(newest))] + [os.path.join(directory, n) for n in ("latest", "lease.json")]
        for path in places:
            size = os.path.getsize(path)
            with open(path, "rb") as f:
                whole = f.read()
            objects = path.startswith(newest) and not path.endswith("metrics.json")
            most = size * 8 if LONG and size < 4000 else min(size * 8, 400 if LONG else 24)
            for k in range(most):
                bit = k if most == size * 8 else random.Random(SEED * 1000 + k).randrange(size * 8)
                bad = bytearray(whole)
                bad[bit // 8] ^= 1 << bit % 8
                with open(path, "wb") as f:
                    f.write(bad)
                state = self.state(0)
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    step = ingot.Checkpointer(directory, signals=False).restore(state)
                expected = 2 if objects else 3
                self.assertEqual(step, expected, f"{path}: bit {bit}")
                self.assertTrue(state["n"] == expected and (state["model"]["w"] == expected).all() and (state["optimizer"]["m"] == expected).all(), f"{path}: bit {bit}")
                if path.startswith(newest):
                    self.assertTrue(any("checkpoint-3" in str(w.message) for w in told), f"{path}: bit {bit}: nothing was said")
                flips[os.path.basename(path)] += 1
                if os.path.exists(os.path.join(newest, "quarantine.json")):
                    os.remove(os.path.join(newest, "quarantine.json"))
            with open(path, "wb") as f:
                f.write(whole)
        tell(f"{sum(flips.values())} flipped bits in {len(flips)} files, each found or of no consequence: " + ", ".join(f"{n} in {name}" for name, n in flips.items()))


if __name__ == "__main__":
    unittest.main()
