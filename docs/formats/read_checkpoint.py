"""Reads a checkpoint of ingot without ingot: python read_checkpoint.py DIR/checkpoint-1200. NumPy alone; with the package xxhash the hashes are compared, too.
One that is compressed needs the package zstandard."""
import base64
import io
import json
import os
import sys

import numpy as np

TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2", "U32": "u4", "I32": "i4", "F32": "f4", "U64": "u8", "I64": "i8", "F64": "f8", "C64": "c8",
         "BF16": "u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E4M3FNUZ": "u1", "F8_E5M2FNUZ": "u1", "F8_E8M0": "u1"}  # those that NumPy has not come as their bits


def unpacked(path):
    """The bytes of a compressed file (frames.md)."""
    import zstandard
    with open(path, "rb") as f:
        b = f.read()
    size, index = np.frombuffer(b, "<u8", 2, len(b) - 48).tolist()
    out = []
    for i in range(-(-size // (1 << 20))):
        at, n, width = int.from_bytes(b[index + 24 * i:][:8], "little"), int.from_bytes(b[index + 24 * i + 8:][:4], "little"), b[index + 24 * i + 12]
        x = b[at:at + n] if width == 0 else zstandard.ZstdDecompressor().decompress(b[at:at + n])
        whole = len(x) // width * width if width > 1 else 0
        out.append(np.frombuffer(x[:whole], "u1").reshape(width, -1).T.tobytes() + x[whole:] if whole else x)
    return b"".join(out)


def opened(path, o):
    """A file of the manifest."""
    return io.BytesIO(unpacked(os.path.join(path, o["name"] + ".frames"))) if "frames" in o else open(os.path.join(path, o["name"]), "rb")


def check(path):
    """The manifest; ValueError where the checkpoint is not whole."""
    with open(os.path.join(path, "manifest.json"), "rb") as f:
        text = f.read()
    manifest = json.loads(text)
    try:
        import xxhash
    except ImportError:
        xxhash = None
    if xxhash and xxhash.xxh3_128_hexdigest(text[:text.rindex(b',"hash"')]) != manifest["hash"]:
        raise ValueError("manifest.json has changed")
    for o in manifest["objects"]:
        file, size = os.path.join(path, o["name"] + (".frames" if "frames" in o else "")), o.get("frames", o["bytes"])
        if os.path.getsize(file) != size:
            raise ValueError(f"{file} has {os.path.getsize(file)} bytes, the manifest says {size}")
        if xxhash:
            with opened(path, o) as f:  # of each leaf of 1 MiB the low half, then the high half
                leaves = b"".join(xxhash.xxh3_128_digest(leaf)[::-1] for leaf in iter(lambda: f.read(1 << 20), b""))
            if xxhash.xxh3_128_hexdigest(leaves) != o["hash"]:
                raise ValueError(f"{file} has changed")
    return manifest


def tensors(path, manifest):
    """{(group, name): array} of all safetensors files."""
    out = {}
    for o in manifest["objects"]:
        if not o["name"].endswith(".safetensors"):
            continue
        stem = o["name"][:-len(".safetensors")]
        group = stem[:-15] if stem[-9:-5] == "-of-" else stem  # model-00001-of-00002
        with opened(path, o) as f:
            size = int.from_bytes(f.read(8), "little")
            for name, t in json.loads(f.read(size)).items():
                if name != "__metadata__":
                    begin, end = t["data_offsets"]
                    f.seek(8 + size + begin)
                    out[group, name] = np.frombuffer(f.read(end - begin), TYPES[t["dtype"]]).reshape(t["shape"])
    return out


def value(x, arrays):
    """What state.json stands for: kinds that JSON has not as the nearest of Python's."""
    if isinstance(x, list):
        return [value(v, arrays) for v in x]
    if not isinstance(x, dict):
        return x
    if len(x) == 1 and next(iter(x)).startswith("$"):
        (kind, v), = x.items()
        if kind in ("$tensor", "$array"):
            return arrays[tuple(v)]
        if kind in ("$dict", "$odict", "$counter", "$defaultdict", "$named"):
            return {value(k, arrays): value(w, arrays) for k, w in (v[1] if kind in ("$defaultdict", "$named") else v)}
        if kind in ("$tuple", "$set", "$frozenset", "$deque", "$bounded_deque"):
            return tuple(value(w, arrays) for w in (v[1] if kind == "$bounded_deque" else v))
        return {"$float": float, "$bytes": base64.b64decode, "$bytearray": base64.b64decode, "$complex": lambda c: complex(*c), "$scalar": lambda s: value(s[1], arrays),
                "$sub": lambda s: value(s[1], arrays), "$peft": lambda w: value(w, arrays)}.get(kind, lambda w: w)(v)
    return {k: value(v, arrays) for k, v in x.items()}


def read(path):
    """(manifest, state)."""
    manifest = check(path)
    with open(os.path.join(path, "state.json"), encoding="utf-8") as f:
        return manifest, value(json.load(f)["state"], tensors(path, manifest))


if __name__ == "__main__":
    found, state = read(sys.argv[1])
    print(f"step {found['step']}, {len(found['objects'])} files; the state has {', '.join(state)}")
