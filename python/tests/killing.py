"""Runs that are killed: each in a process of its own, forked from one that has imported what takes long."""
import atexit
import collections
import multiprocessing
import os
import random
import signal
import socket
import sys
import time


def _begin(target, log, began, arguments):
    f = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(f, 1)
    os.dup2(f, 2)
    sys.stdout.reconfigure(line_buffering=True)
    target(began=began.set, **arguments)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


_counts = collections.Counter()


def count(signal_):
    """For the log of ./run test-frameworks: how many runs were killed, and by what."""
    if not _counts:
        atexit.register(lambda: print("kills: " + ", ".join(f"{n} by {name}" for name, n in sorted(_counts.items())), file=sys.stderr))
    _counts[signal.Signals(signal_).name] += 1


def left_over(directory):
    """Hidden files that stay after a run has gone on from kills. What a kill leaves of a probe of the directory goes ten minutes later."""
    return [n for n in os.listdir(directory) if n.startswith(".") and not n.startswith(".ingot-probe-")]


class Runs:
    """target(began, **arguments): a training that calls began() when its first step begins, and goes on from what it finds. modules: imported once."""

    def __init__(self, target, log, modules):
        self.context = multiprocessing.get_context("forkserver")
        here = os.path.dirname(os.path.abspath(__file__))
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])  # the server of forks takes no other path
        self.context.set_forkserver_preload(modules)
        self.target, self.log = target, log
        self.logged = 0

    def start(self, anew=True, **arguments):
        """anew=False: another rank of the run that was started last."""
        if anew:
            self.began = self.context.Event()
        process = self.context.Process(target=_begin, args=(self.target, self.log, self.began, arguments))
        process.start()
        return process

    def text(self):
        """What was logged since it was last asked for."""
        with open(self.log, errors="replace") as f:
            f.seek(self.logged)
            text = f.read()
            self.logged = f.tell()
        return text

    def whole(self, **arguments):
        """One to its end: its exit code."""
        process = self.start(**arguments)
        process.join(300)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode

    def killed(self, within, signal_=signal.SIGKILL, **arguments):
        """One that gets a signal at a random instant of so many seconds after its first step; its exit code."""
        process = self.start(**arguments)
        while not self.began.wait(0.05) and process.is_alive():
            pass
        time.sleep(random.uniform(*within))
        if process.is_alive():
            os.kill(process.pid, signal_)
            count(signal_)
        process.join(300)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode


class OfRanks:
    """For tests that have such runs of several ranks, as self.runs."""

    def started(self, world, **arguments):
        return [self.runs.start(anew=r == 0, rank=r, world=world, **arguments) for r in range(world)]

    def ended(self, processes):
        """Their exit codes, and what all of them said."""
        end = time.monotonic() + 900
        for p in processes:
            p.join(max(0.1, end - time.monotonic()))
        hang = [p for p in processes if p.exitcode is None]
        for p in hang:
            p.kill()
            p.join()
        told = self.runs.text()
        self.assertEqual(hang, [], told[-6000:])
        return [p.exitcode for p in processes], told

    def go(self, code=0, **options):
        """A run to its end; what it said."""
        codes, told = self.ended(self.began(**options))
        self.assertEqual(set(codes), {code}, told[-6000:])
        return told
