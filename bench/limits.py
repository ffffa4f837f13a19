#!/usr/bin/env python3
"""What the machine can do, as JSON: limits.py FOLDER [MIB]. Direct disk write (with fsync) and read, a copy in memory
by one thread and by two. Bytes a second; a copy counts the bytes copied once. Best of three."""
import ctypes
import json
import mmap
import os
import sys
import threading
import time

folder, mib = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1024
BLOCK = 8 << 20
size = mib << 20
path = os.path.join(folder, "limits.tmp")
block = mmap.mmap(-1, BLOCK)
block.write(os.urandom(BLOCK))


def timed(f):
    best = None
    for _ in range(3):
        t = time.perf_counter()
        f()
        t = time.perf_counter() - t
        best = t if best is None else min(best, t)
    return best


def opened(flags):
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600), True
    except OSError:  # tmpfs has no direct I/O
        return os.open(path, flags, 0o600), False


direct = True


def write():
    global direct
    fd, direct = opened(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for _ in range(size // BLOCK):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)


def read():
    fd, _ = opened(os.O_RDONLY)
    while os.readv(fd, [block]) > 0:
        pass
    os.close(fd)


result = {"disk_write": size / timed(write), "disk_read": size / timed(read)}
result["direct_io"] = direct
os.unlink(path)

half = 256 << 20
a, b = mmap.mmap(-1, 2 * half), mmap.mmap(-1, 2 * half)
pa, pb = (ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in (a, b))
ctypes.memset(pa, 1, 2 * half)
ctypes.memset(pb, 2, 2 * half)


def copy_two():
    threads = [threading.Thread(target=ctypes.memmove, args=(pb + i * half, pa + i * half, half)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


result["memory_copy_1_thread"] = 2 * half / timed(lambda: ctypes.memmove(pb, pa, 2 * half))
result["memory_copy_2_threads"] = 2 * half / timed(copy_two)
print(json.dumps(result))
