"""What fault_shim.cc does and has seen: its control file, and processes under it, each of a new interpreter or forked from one that has imported everything already."""
import collections
import errno
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SHIM = os.environ.get("INGOT_FAULT_SHIM", "")
HEADER = 4096
CONTROL = struct.Struct("<QQIIIIQQ")  # count, at, action, error, lasting, refuse, capacity, records
RECORD = struct.Struct("<QiiqqqiI24s220s220s")
ACTIONS = {"none": 0, "kill before": 1, "kill after": 2, "kill torn": 3, "stop": 4, "fail": 5, "short": 6}
NO_RENAME = 1 | 2  # nor links

Call = collections.namedtuple("Call", "number pid tid offset size result error done op path to")
Ended = collections.namedtuple("Ended", "code out err")  # code: below 0 the signal, as subprocess has it; "stopped"; "hang"


class Faults:
    """A control file: what happens at call number `at`, of all that change something below `under`."""

    def __init__(self, file, under, at=0, action="none", error="EIO", lasting=False, refuse=0, capacity=1 << 14):
        self.file, self.under = file, os.path.realpath(under)
        with open(file, "wb") as f:
            f.write(CONTROL.pack(0, at, ACTIONS[action], getattr(errno, error), lasting, refuse, capacity, 0) + self.under.encode() + b"\0")
            f.truncate(HEADER + capacity * RECORD.size)

    def env(self):
        return {"LD_PRELOAD": SHIM, "INGOT_FAULTS": self.file}

    def count(self):
        with open(self.file, "rb") as f:
            return CONTROL.unpack(f.read(CONTROL.size))[0]

    def calls(self):
        """All calls and notes, in the order in which they began."""
        with open(self.file, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            capacity, records = CONTROL.unpack_from(m)[6:]
            assert records <= capacity, "the control file is too small"
            rows = [RECORD.unpack_from(m, HEADER + i * RECORD.size) for i in range(records)]
        text = lambda b: b.split(b"\0", 1)[0].decode(errors="replace")
        return [Call(*r[:8], *map(text, r[8:])) for r in rows]


def _code(status):
    if os.WIFSTOPPED(status):
        return "stopped"
    return os.waitstatus_to_exitcode(status)


def _look(pid, give_up):
    """The exit code, None while it runs; "hang", and it is killed, where it is given up."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        return _code(status)
    if not give_up:
        return None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"


def _wait(pid, seconds):
    """The exit code; "stopped"; "hang", and it is killed, where it takes longer."""
    end, pause = time.monotonic() + seconds, 0.0005
    while True:
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if done:
            return _code(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.005)


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


class Started:
    def __init__(self, pid, base, wait):
        self.pid, self._base, self._wait = pid, base, wait

    def wait(self, seconds=60):
        code = self._wait(self.pid, seconds)
        return Ended(code, *self.output())

    def output(self):
        return _read(self._base + ".out"), _read(self._base + ".err")

    def told(self, *texts):
        """Whether it has said one of these."""
        err = _read(self._base + ".err")
        return any(t in err for t in texts)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)


class Programs:
    """Each is a process of its own, started as a user starts it: [program, argument, ...]."""

    def __init__(self, scratch):
        self._scratch, self._n = scratch, 0

    def start(self, command, faults=None):
        self._n += 1
        base = os.path.join(self._scratch, f"program-{id(self):x}-{self._n}")
        env = dict(os.environ, **(faults.env() if faults else {}))
        with open(base + ".out", "wb") as out, open(base + ".err", "wb") as err:
            p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        p.returncode = 0  # waited for here, not by subprocess

        def wait(pid, seconds):
            return _wait(pid, seconds)
        return Started(p.pid, base, wait)

    def run(self, command, faults=None, seconds=60):
        return self.start(command, faults).wait(seconds)

    def close(self):
        pass


class Scripts(Programs):
    """Python scripts, each in an interpreter of its own: [script, argument, ...]."""

    def start(self, command, faults=None):
        return super().start([sys.executable, "-B", *command], faults)


class Nursery:
    """The same scripts in children of one interpreter that has imported what they import: a start takes milliseconds, so that each call can have its turn."""

    def __init__(self, scratch, modules=("numpy", "ingot"), python=sys.executable):
        self._scratch, self._n = scratch, 0
        env = dict(os.environ, LD_PRELOAD=SHIM, INGOT_FAULTS="")
        self._process = subprocess.Popen([python, "-B", os.path.join(HERE, "nursery.py"), *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, command, faults=None, env=None):
        self._n += 1
        base = os.path.join(self._scratch, f"child{self._n}-{self._process.pid}")
        pid = self._ask(op="start", command=list(command), faults=faults.file if faults else "", base=base, env=env or {})
        return Started(pid, base, lambda pid, seconds: self._ask(op="wait", pid=pid, seconds=seconds))

    def run(self, command, faults=None, seconds=60):
        return self.start(command, faults).wait(seconds)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class EndedJob(Ended):
    codes = survived = None


class Job(Nursery):
    """The same script as that many ranks of torch.distributed, with one control file: its one counter counts the calls of all of them, and what happens at a call happens to the rank that makes it.

    The end of the job: 0 where each rank ended with 0; below 0 where a signal ended one, "hang" where one did not end by itself. `codes` has each rank's; `survived` the seconds for which the others went on.
    """

    def __init__(self, scratch, world=2, **options):
        super().__init__(scratch, **options)
        self.world = world

    def run(self, command, faults=None, seconds=90):
        with socket.socket() as s:  # nobody listens there now
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        env = {"WORLD_SIZE": str(self.world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = [self.start(command, faults, {**env, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(self.world)]
        end, died, codes = time.monotonic() + seconds, None, {}
        while len(codes) < self.world:
            for r, process in enumerate(ranks):
                if r in codes:
                    continue
                code = self._ask(op="look", pid=process.pid, give_up=time.monotonic() > end)
                if code is not None:
                    codes[r] = code
                    died = time.monotonic() if code != 0 and died is None else died
            time.sleep(0.005)
        told = [p.output() for p in ranks]
        every = [codes[r] for r in range(self.world)]
        code = "hang" if "hang" in every else next((c for c in every if c < 0), next((c for c in every if c), 0))
        outs = {out.strip().splitlines()[-1] if out.strip() else "" for out, _ in told}
        ended = EndedJob(code, told[0][0] if len(outs) == 1 else f"the ranks ended with different results: {outs}", "\n".join(f"[rank {r}] {line}" for r, (_, err) in enumerate(told) for line in err.splitlines()))
        ended.codes, ended.survived = every, 0 if died is None else time.monotonic() - died
        return ended
