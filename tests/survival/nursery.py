"""Imports the modules named, then starts scripts in children of its own, as it is told on its input: faults.Nursery."""
import atexit
import ctypes
import importlib
import json
import os
import runpy
import sys
import traceback

from faults import _look, _wait

for module in sys.argv[1:]:
    importlib.import_module(module)
arm = ctypes.CDLL(None).ingot_faults_arm


def child(command, faults, base, env):
    code = 1
    try:
        os.environ.update(env)
        for number, end in ((1, ".out"), (2, ".err")):
            fd = os.open(base + end, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(fd, number)
            os.close(fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = command
        arm(faults.encode())
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "start":
        pid = os.fork()
        if pid == 0:
            child(request["command"], request["faults"], request["base"], request["env"])
        answer = pid
    elif request["op"] == "look":
        answer = _look(request["pid"], request["give_up"])
    else:
        answer = _wait(request["pid"], request["seconds"])
    print(json.dumps(answer), flush=True)
