"""Hostile files of torch.save, each with a part of the error that it must give: writes torch/NAME and torch.tsv (NAME, error). Plain Python."""
import os, pickle, struct, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = []


def put(name, data, error):
    os.makedirs(f"{HERE}/torch", exist_ok=True)
    with open(f"{HERE}/torch/{name}", "wb") as f:
        f.write(data)
    ROWS.append((name, error))


class Record:
    """One record; what is set besides the truth is a lie."""
    def __init__(s, name, data, method=0, **lies):
        s.name, s.data, s.method, s.lies = name.encode(), data, method, lies
        s.packed = data if method == 0 else zlib.compress(data, 9, -15)

    def get(s, key, truth):
        return s.lies.get(key, truth)

    def local(s):
        name, crc = s.get("local_name", s.name), s.get("local_crc", zlib.crc32(s.data))
        return struct.pack("<IHHHHHIIIHH", 0x04034b50, 20, s.get("local_flags", 0), s.get("local_method", s.method), 0, 0, crc, s.get("local_packed", len(s.packed)),
                           s.get("local_size", len(s.data)), len(name), 0) + name + s.packed

    def central(s, at):
        size, packed, extra = s.get("size", len(s.data)), s.get("packed", len(s.packed)), b""
        if size >= 1 << 32:
            extra, size = struct.pack("<HHQ", 1, 8, size), 0xffffffff
        extra = s.get("extra", extra)
        return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 20, 20, s.get("flags", 0), s.get("as_method", s.method), 0, 0, s.get("crc", zlib.crc32(s.data)), packed, size,
                           len(s.name), len(extra), 0, s.get("disk", 0), 0, 0, s.get("at", at)) + s.name + extra


def archive(records, zip64=None, comment=b"", disk=0, **lies):
    out, directory = b"", b""
    for r in records:
        directory += r.central(len(out))
        out += r.local()
    n, at = len(records), len(out)
    out += directory
    if zip64 is not None:
        end64 = len(out)
        out += struct.pack("<IQHHIIQQQQ", 0x06064b50, zip64.get("record", 44), 45, 45, 0, 0, zip64.get("count", n), zip64.get("count", n), zip64.get("size", len(directory)), zip64.get("at", at))
        out += struct.pack("<IIQI", 0x07064b50, 0, zip64.get("end", end64), 1)
    return out + struct.pack("<IHHHHIIH", 0x06054b50, disk, disk, lies.get("count", n), lies.get("count", n), lies.get("size", len(directory)), lies.get("at", at), len(comment)) + comment


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def num(i):
    return b"J" + struct.pack("<i", i) if -2**31 <= i < 2**31 else b"\x8a\x09" + i.to_bytes(9, "little", signed=True)


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(key="0", kind="FloatStorage", numel=4, offset=0, size=(4,), stride=(1,), more=b""):
    return (b"ctorch._utils\n_rebuild_tensor_v2\n" + b"((" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + num(numel) + b"tQ" + num(offset) +
            tup(*map(num, size)) + tup(*map(num, stride)) + b"\x89ccollections\nOrderedDict\n)R" + b"tR" + more)


def state(**items):
    return b"\x80\x02}(" + b"".join(text(k) + v for k, v in items.items()) + b"u."


def torch(data_pkl, storages=None, **kw):
    return archive([Record("a/data.pkl", data_pkl), Record("a/version", b"3\n")] +
                   [Record(f"a/data/{k}", v) for k, v in ({"0": bytes(16)} if storages is None else storages).items()], **kw)


good = state(w=tensor())
put("good.pt", torch(good), "")
# The archive.
many = b"\x80\x02(" + b"N" * 1000 + b"l."
put("zip-bomb-claim.pt", archive([Record("a/data.pkl", many, 8, size=1 << 40)]), "bytes, more than the 268435456 that are accepted of it")
put("zip-bomb-ratio.pt", archive([Record("a/data.pkl", many, 8, size=200 << 20, local_size=200 << 20)]), "which deflate cannot")
put("zip-bomb-longer.pt", archive([Record("a/data.pkl", many, 8, size=500, local_size=500)]), "does not unpack to exactly 500 bytes")
put("zip-bomb-shorter.pt", archive([Record("a/data.pkl", many, 8, size=2000, local_size=2000)]), "does not unpack to exactly 2000 bytes")
put("zip-overlap.pt", archive([Record("a/data.pkl", good), Record("a/data/0", bytes(16), at=0)]), "records overlap")
put("zip-overlap-within.pt", archive([Record("a/data.pkl", good), Record("a/data/0", bytes(16), at=50)]), "records overlap")
put("zip-duplicate.pt", archive([Record("a/data.pkl", good), Record("a/data.pkl", good)]), "two of its records are called 'a/data.pkl'")
put("zip-two-pickles.pt", archive([Record("a/data.pkl", good), Record("b/data.pkl", good)]), "it has two pickles")
put("zip-up.pt", archive([Record("a/data.pkl", good), Record("a/../../x", b"x")]), "leads out of the archive")
put("zip-absolute.pt", archive([Record("/a/data.pkl", good)]), "is an absolute path")
put("zip-windows.pt", archive([Record("a\\data.pkl", good)]), "is an absolute path or one of Windows")
put("zip-zero-byte.pt", archive([Record("a/data.pkl\0", good)]), "holds a zero byte")
put("zip-local-name.pt", archive([Record("a/data.pkl", good, local_name=b"a/data.txt")]), "it has another name")
put("zip-local-name-longer.pt", archive([Record("a/data.pkl", good, local_name=b"a/data.pkl.")]), "it has another name")
put("zip-local-method.pt", archive([Record("a/data.pkl", good, local_method=8)]), "method 8 and 0")
put("zip-local-size.pt", archive([Record("a/data.pkl", good, local_size=3, local_packed=3)]), "3 bytes (3 unpacked), not")
put("zip-local-crc.pt", archive([Record("a/data.pkl", good, local_crc=1)]), "another CRC-32")
put("zip-crc.pt", archive([Record("a/data.pkl", good, crc=1, local_crc=1)]), "the CRC-32 of its record 'a/data.pkl' is")
put("zip-encrypted.pt", archive([Record("a/data.pkl", good, flags=1, local_flags=1)]), "is encrypted")
put("zip-local-encrypted.pt", archive([Record("a/data.pkl", good, local_flags=1)]), "flags 0x0001 and 0x0000")  # a scanner skips it: CVE-2025-1944, 1945
put("zip-flag-patched.pt", archive([Record("a/data.pkl", good, flags=0x20, local_flags=0x20)]), "the ZIP flags 0x0020")
put("zip-flag-strong.pt", archive([Record("a/data.pkl", good, flags=0x40, local_flags=0x40)]), "is encrypted")
put("zip-method.pt", archive([Record("a/data.pkl", good, as_method=14)]), "compressed by ZIP method 14")
put("zip-disks.pt", torch(good, disk=1), "several disks")
put("zip-record-disk.pt", archive([Record("a/data.pkl", good, disk=2)]), "lies on another disk")
put("zip64-count.pt", torch(good, zip64={"count": 1 << 60}, count=0xffff), "its end record claims 1152921504606846976 records")
put("zip64-disagrees.pt", torch(good, zip64={"count": 2}), "its two end records disagree")
put("zip64-place.pt", torch(good, zip64={"end": 1 << 62}), "beyond its place before byte")
put("zip64-size.pt", torch(good, zip64={"record": 1 << 62}), "there is no ZIP64 end record that reaches")
put("zip64-directory.pt", torch(good, zip64={"at": 2**64 - 10, "size": 300}, at=0xffffffff, size=0xffffffff), "its central directory has 300 bytes at byte")
put("zip64-no-field.pt", archive([Record("a/data.pkl", good, size=0xffffffff, packed=0xffffffff)]), "has no ZIP64 field for its sizes")
put("zip-more-records.pt", torch(good, count=0xfff), "its end record claims 4095 records")
put("zip-fewer-records.pt", torch(good, count=1), "bytes of its central directory are no record's")
put("zip-added.pt", torch(good) + b"more", "the ZIP archive ends at byte")
put("zip-prefix.pt", b"PK\3\4" + torch(good), "bytes are missing or were added")
put("zip-two-ends.pt", torch(good, comment=torch(state(x=tensor()))), "bytes are missing or were added")
put("zip-stored-packed.pt", archive([Record("a/data.pkl", good, size=5, local_size=5)]), "is stored, but has")
put("zip-nothing.pt", archive([Record("a/x", b"")]), "without a record NAME/data.pkl")
put("byteorder.pt", archive([Record("a/data.pkl", good), Record("a/byteorder", b"middle")]), "its byteorder is 'middle'")
put("storage-deflated.pt", archive([Record("a/data.pkl", good), Record("a/data/0", bytes(16), 8)]), "")
put("storage-bomb.pt", archive([Record("a/data.pkl", state(w=tensor(numel=1 << 28, size=(1 << 28,)))), Record("a/data/0", bytes(16), 8, size=1 << 30, local_size=1 << 30)]),
    "bytes to 1073741824, which deflate cannot")
put("repacked.pt", archive([Record("My model/", b""), Record("My model/data/", b""), Record("My model/data/0", bytes(range(16)), 8), Record("My model/version", b"3\n", 8),
                            Record("My model/data.pkl", good, 8), Record("__MACOSX/My model/._data.pkl", b"x" * 40, 8), Record("__MACOSX/._My model", b"x" * 40)], comment=b"packed again"), "")
put("repacked-without-folder.pt", archive([Record("data.pkl", good), Record("data/0", bytes(16))]), "packed without the folder around its data.pkl")
# The pickle.
def call(module, name, *args):
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + tup(*args) + b"R."
for i, (m, n) in enumerate([("os", "system"), ("posix", "system"), ("nt", "system"), ("builtins", "eval"), ("__builtin__", "exec"), ("subprocess", "check_output"),
                            ("builtins", "__import__"), ("builtins", "getattr"), ("__builtin__", "apply"), ("importlib", "import_module"), ("runpy", "run_path"),
                            ("torch.hub", "load"), ("numpy.testing._private.utils", "runstring"), ("webbrowser", "open"), ("socket", "create_connection")]):
    put(f"code-{i:02d}.pt", torch(call(m, n, text("true"))), f"asks to call {m}.{n}: not run, file refused")
def attribute(of, name):
    return b"c__builtin__\ngetattr\n" + tup(of, text(name)) + b"R"
for i, (code, said) in enumerate([(attribute(b"crandom\n_os\n", "system") + tup(text("true")) + b"R", "random._os.system"),
                                  (attribute(attribute(b"c__main__\nA\n", "f"), "__globals__"), "__main__.A.f.__globals__"),
                                  (attribute(b"cpandas\nDataFrame\n", "eval") + tup(text("1")) + b"R", "pandas.DataFrame.eval"),
                                  (attribute(b"c__main__\nA\n)\x81", "__class__"), "builtins.getattr for '__class__' of an object"),
                                  (attribute(b"c__main__\nA\n)\x81", "run") + tup(text("true")) + b"R", "the method 'run' of an object")]):
    put(f"getattr-{i}.pt", torch(state(w=tensor(), x=code)), f"asks to call {said}: not run, file refused")
put("getattr-uncalled.pt", torch(state(w=tensor(), x=attribute(b"c__main__\nRole\n", "system"))), "")
put("code-within.pt", torch(state(w=tensor(), x=call("os", "system", text("true"))[2:-1])), "asks to call os.system: not run")
put("code-dotted.pt", torch(b"\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93\x8c\x04true\x85R."), "asks to call torch.serialization.os.system")
put("code-build.pt", torch(b"\x80\x02c__main__\nA\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsbX\x04\0\0\0trueb."), "asks to call os.system")
put("code-inst.pt", torch(b"(S'true'\nios\nsystem\n."), "asks to call os.system")
put("loop-list.pt", torch(b"\x80\x02]q\0h\0a."), "")
put("loop-dict.pt", torch(b"\x80\x02}q\0" + text("me") + b"h\0s."), "")
put("loop-state.pt", torch(b"\x80\x02c__main__\nA\n)\x81q\0}" + text("me") + b"h\0sb."), "")
laughs = b"\x80\x02(]q\0"
for i in range(60):
    laughs += b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1])
put("laughs.pt", torch(laughs + b"l."), "uses the same values over and over")
put("deep-lists.pt", archive([Record("a/data.pkl", b"\x80\x02" + b"]" * 1000000 + b"a" * 999999 + b".", 8)]), "nested deeper than 200 levels")
put("deep-tuples.pt", archive([Record("a/data.pkl", b"\x80\x02N" + b"\x85" * 1000000 + b".", 8)]), "nested deeper than 200 levels")
put("deep-marks.pt", archive([Record("a/data.pkl", b"\x80\x02" + b"(" * 10_000_000, 8)]), "nests more than 10000 levels")
put("long-huge.pt", torch(b"\x80\x02\x8b\xff\xff\xff\x7f."), "claims 2147483647 bytes more")
put("long-large.pt", archive([Record("a/data.pkl", b"\x80\x02\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20) + b".", 8)]), "an integer of 1048576 bytes")
put("memo-huge.pt", archive([Record("a/data.pkl", b"\x80\x02Nr\xff\xff\xff\x7f.")]), "puts a value at number 2147483647 of its memo")  # 160 bytes that ask for 16 GB
put("frame-huge.pt", archive([Record("a/data.pkl", b"\x80\x04\x95" + b"\xff" * 8 + b"N.")]), "claims 18446744073709551615 bytes more")
put("text-huge.pt", archive([Record("a/data.pkl", b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fN.")]), "claims 9223372036854775807 bytes more")
put("set-items-of-tensor.pt", torch(state(w=tensor(more=text("a") + b"Ns"))), "sets items of what is no dict")  # CVE-2026-24747
put("state-of-tensor.pt", torch(b"\x80\x02" + num(1) + b"}b."), "gives a state to what is no object")
put("no-stop.pt", torch(good[:-1]), "claims 1 bytes more where 0 are left")
put("after-stop.pt", torch(good + b"N."), "the pickle ends at byte")
put("two-names.pt", torch(b"\x80\x02}(" + text("a/b") + tensor() + text("a") + b"}" + text("b") + tensor() + b"su."), "two of its tensors are called 'a/b'")
# Tensors and their storages.
put("storage-short.pt", torch(state(w=tensor()), {"0": bytes(15)}), "has 16 bytes by the pickle (FloatStorage), but 15 in the file")
put("storage-long.pt", torch(state(w=tensor()), {"0": bytes(17)}), "has 16 bytes by the pickle (FloatStorage), but 17 in the file")
put("storage-claims.pt", torch(state(w=tensor(numel=1000, size=(1000,)))), "has 4000 bytes by the pickle (FloatStorage), but 16 in the file")  # CVE-2026-24747
put("storage-overflows.pt", torch(state(w=tensor(numel=2**62))), "the storage is none, or its size overflows")
put("storage-negative.pt", torch(state(w=tensor(numel=-4))), "the storage is none, or its size overflows")
put("storage-gone.pt", torch(state(w=tensor(key="7"))), "the storage '7' is not there")
put("storage-up.pt", torch(state(w=tensor(key="../version", kind="CharStorage", numel=2, size=(2,)))), "the storage '../version' is not there")
put("tensor-long.pt", torch(state(w=tensor(size=(5,)))), "reaches beyond its storage '0' of 16 bytes")
put("tensor-offset.pt", torch(state(w=tensor(offset=1))), "reaches beyond its storage")
put("tensor-offset-negative.pt", torch(state(w=tensor(offset=-1))), "the offset in its storage is -1")
put("tensor-offset-huge.pt", torch(state(w=tensor(offset=2**63 - 1))), "reaches beyond its storage")
put("tensor-stride-negative.pt", torch(state(w=tensor(offset=3, stride=(-1,)))), "a stride is -1")
put("tensor-stride.pt", torch(state(w=tensor(stride=(2,)))), "reaches beyond its storage")
put("tensor-stride-huge.pt", torch(state(w=tensor(stride=(2**62,)))), "reaches beyond its storage")
put("tensor-size-negative.pt", torch(state(w=tensor(size=(-4,)))), "it has the dimension -4")
put("tensor-size-overflows.pt", torch(state(w=tensor(size=(2**40, 2**40), stride=(0, 0)))), "its shape overflows")
put("tensor-size-overflows-empty.pt", torch(state(w=tensor(size=(0, 2**40, 2**40), stride=(0, 0, 0)))), "its shape overflows")
put("tensor-expanded.pt", torch(state(w=tensor(size=(2**40,), stride=(0,)))), "is 4398046511104 bytes, of which its storage has 16")
put("tensor-dims.pt", torch(state(w=tensor(size=(1,) * 9, stride=(1,) * 9))), "it has 9 dimensions")
put("tensor-strides-few.pt", torch(state(w=tensor(size=(2, 2), stride=(1,)))), "the strides are not as many as its dimensions")
put("tensor-name-empty.pt", torch(b"\x80\x02}" + text("") + tensor() + b"s."), "one of its tensors has no name")
# The old form.
def legacy(obj, keys, data, protocol=1001):
    return pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(protocol, 2) + pickle.dumps({"little_endian": True}, 2) + obj + pickle.dumps(keys, 2) + data
old = good.replace(b"J\x04\0\0\0tQ", b"J\x04\0\0\0NtQ")
view = lambda *v: good.replace(b"J\x04\0\0\0tQ", b"J\x04\0\0\0" + tup(text("v"), *map(num, v)) + b"tQ")
one = struct.pack("<Q", 4) + bytes(16)
put("legacy-good.pt", legacy(old, ["0"], one), "")
put("legacy-view.pt", legacy(view(0, 4), ["0"], one), "")
put("legacy-view-far.pt", legacy(view(1, 4), ["0"], one), "refers to something outside its pickle that is no storage")
put("legacy-version.pt", legacy(old, ["0"], one, 1002), "torch's old form of version 1002")
put("legacy-short.pt", legacy(old, ["0"], one[:-1]), "it is truncated")
put("legacy-long.pt", legacy(old, ["0"], one + b"x"), "bytes were added")
put("legacy-count.pt", legacy(old, ["0"], struct.pack("<Q", 2**62)), "has 4611686018427387904 elements of 4 bytes")
put("legacy-count-other.pt", legacy(old, ["0"], struct.pack("<Q", 3) + bytes(12)), "has 16 bytes by the pickle (FloatStorage), but 12 in the file")
put("legacy-keys.pt", legacy(old, ["0", "1"], one + one), "a storage '1' that no tensor uses")
put("legacy-keys-twice.pt", legacy(old, ["0", "0"], one + one), "holds the storage '0' twice")
put("legacy-keys-none.pt", legacy(old, [], b""), "the storage '0' is not there")
put("legacy-code.pt", legacy(call("os", "system", text("true")), [], b""), "asks to call os.system: not run")
put("legacy-tar.pt", b"storages" + bytes(249) + b"ustar\0" + bytes(300), "it is a tar archive")

with open(f"{HERE}/torch.tsv", "w") as f:
    f.writelines(f"{n}\t{e}\n" for n, e in ROWS)
