#!/usr/bin/env python3
"""Makes tests/attacks/gguf/*.gguf and *.dat, hostile files of a few hundred bytes, and tests/attacks/gguf.json: each file's name and a part of the error that
ingot gives for it. Needs nothing but Python."""
import json
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
U8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 2, 4, 5, 6, 7, 8, 9, 10


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def info(name, ne=(4, 2), kind=0, offset=0):
    return text(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne) + struct.pack("<IQ", kind, offset)


def gguf(kvs=(), infos=None, data=b"d" * 32, version=3, tensors=None, count=None, align=32, tail=b""):
    infos = [info("w")] if infos is None else infos
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos) if tensors is None else tensors, len(kvs) if count is None else count)
    head += b"".join(kvs) + b"".join(infos)
    return head + b"\0" * (-len(head) % align) + data + tail


def u32(key, n):
    return kv(key, U32, struct.pack("<I", n))


def vocab(tokens, types):
    return [kv("general.architecture", STRING, text("llama")), kv("tokenizer.ggml.model", STRING, text("llama")),
            kv("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(t) for t in tokens])),
            kv("tokenizer.ggml.token_type", ARRAY, array(I32, [struct.pack("<i", t) for t in types]))]


def entry(name, values=2, claimed=None):
    b = name if isinstance(name, bytes) else name.encode()
    return struct.pack("<i", len(b)) + b + struct.pack("<ii", 3, values if claimed is None else claimed) + struct.pack(f"<{values}f", *range(values))


FILES = {
    "tensors-2-60.gguf": (gguf(tensors=1 << 60), "claims 1152921504606846976 tensors"),
    "keys-2-60.gguf": (gguf(count=1 << 60), "claims 1 tensors and 1152921504606846976 key-values"),
    "array-2-60.gguf": (gguf([text("k") + struct.pack("<IIQ", ARRAY, U8, 1 << 60)]), "claims 1152921504606846976 elements"),
    "array-overflow.gguf": (gguf([text("k") + struct.pack("<IIQ", ARRAY, U64, 1 << 61)]), "claims 2305843009213693952 elements"),
    "array-nested.gguf": (gguf([text("k") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 10 + b"\0" * 12]), "nested too deep"),
    "key-past-the-end.gguf": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 60000) + b"k" * 40, "the file ends at byte"),
    "text-past-the-end.gguf": (gguf([kv("k", STRING, struct.pack("<Q", 5000))]), "the file ends at byte"),
    "text-2-63.gguf": (gguf([kv("k", STRING, struct.pack("<Q", 1 << 63))]), "a text is 9223372036854775808 bytes long"),
    "asks-for-gigabytes.gguf": (gguf([text("k") + struct.pack("<IIQ", ARRAY, STRING, 1 << 28)], data=b""), "claims 268435456 elements, but only"),
    "alignment-0.gguf": (gguf([u32("general.alignment", 0)]), "general.alignment is not a power of two"),
    "alignment-48.gguf": (gguf([u32("general.alignment", 48)]), "general.alignment is not a power of two"),
    "alignment-2-31.gguf": (gguf([u32("general.alignment", 1 << 31)]), "general.alignment is not a power of two between 1 and 16 MiB"),
    "alignment-text.gguf": (gguf([kv("general.alignment", STRING, text("32"))]), "general.alignment is not a power of two"),
    "key-twice.gguf": (gguf([u32("k", 1), u32("k", 2)]), "the metadata key 'k' stands twice"),
    "tensor-twice.gguf": (gguf(infos=[info("w"), info("w", offset=32)], data=b"d" * 64), "the tensor 'w' stands twice"),
    "tensor-name-not-utf8.gguf": (gguf(infos=[info(b"w\xff\xfe")]), "is no text in UTF-8"),
    "key-not-utf8.gguf": (gguf([u32(b"k\xc0\x80", 1)]), "is no text in UTF-8"),
    "tensor-name-control.gguf": (gguf(infos=[info("w\x1b[2J")]), "has a name that is empty or no text"),
    "tensor-name-empty.gguf": (gguf(infos=[info("")]), "has a name that is empty"),
    "tensor-name-2000.gguf": (gguf(infos=[info("w" * 2000)]), "a tensor's name is 2000 bytes long"),
    "shape-overflow.gguf": (gguf(infos=[info("w", (1 << 40, 1 << 40))]), "the shape of tensor 'w' overflows"),
    "shape-negative.gguf": (gguf(infos=[info("w", ((1 << 64) - 1,))]), "the shape of tensor 'w' overflows"),
    "dimensions-5.gguf": (gguf(infos=[info("w", (1, 1, 1, 1, 1))]), "has 5 dimensions"),
    "type-unknown.gguf": (gguf(infos=[info("w", kind=4)]), "has the unknown type 4"),
    "type-2-31.gguf": (gguf(infos=[info("w", kind=1 << 31)]), "has the unknown type 2147483648"),
    "blocks-broken.gguf": (gguf(infos=[info("w", (33,), 2)]), "expected a multiple of 32"),
    "offset-beyond.gguf": (gguf(infos=[info("w", offset=64)]), "the file holds only 32"),
    "offset-overflow.gguf": (gguf(infos=[info("w", offset=(1 << 64) - 32)]), "beyond what a file can hold"),
    "offset-misaligned.gguf": (gguf(infos=[info("w", offset=8)], data=b"d" * 64), "expected a multiple of 32"),
    "overlap.gguf": (gguf(infos=[info("w", (16,)), info("x", (4,), offset=32)], data=b"d" * 64), "tensors 'w' and 'x' overlap"),
    "hole.gguf": (gguf(infos=[info("w"), info("x", offset=64)], data=b"d" * 96), "belong to no tensor"),
    "polyglot.gguf": (gguf(tail=b"PK\x05\x06" + b"\0" * 200), "bytes were added"),
    "big-endian-lie.gguf": (gguf(version=0x03000000), "claims 72057594037927936 tensors"),
    "version-1.gguf": (gguf(version=1), "GGUF version 1"),
    "version-huge.gguf": (gguf(version=0xFFFFFFFF), "GGUF version 4294967295"),
    "split-count.gguf": (gguf([kv("split.count", U16, struct.pack("<H", 2))]), "it is part of a set of 2 files"),
    "split-outside-00001-of-00002.gguf": (gguf([kv("split.count", U16, struct.pack("<H", 2))]), "is not there; download it"),
    "flag-2.gguf": (gguf([kv("k", BOOL, b"\2")]), "a truth value is 2"),
    "byte-token-negative.gguf": (gguf(vocab(["<unk>", "<0x-1>"], [2, 6]), [], b""), "tokenizer.ggml.tokens[1]: \"<0x-1>\" is of type byte"),
    "byte-token-long.gguf": (gguf(vocab(["<unk>", "<0x00FF>"], [2, 6]), [], b""), "tokenizer.ggml.tokens[1]: \"<0x00FF>\" is of type byte"),
    "imatrix-count.dat": (struct.pack("<i", 1 << 30) + entry("blk.0.ffn_up.weight"), "claims 1073741824 entries"),
    "imatrix-values.dat": (struct.pack("<i", 1) + entry("blk.0.ffn_up.weight", claimed=1 << 29), "claims 536870912 values"),
    "imatrix-negative.dat": (struct.pack("<i", 1) + entry("blk.0.ffn_up.weight", claimed=-5), "claims -5 values"),
    "imatrix-twice.dat": (struct.pack("<i", 2) + entry("blk.0.ffn_up.weight") * 2, "stands twice"),
    "imatrix-cut.dat": ((struct.pack("<i", 2) + entry("blk.0.ffn_up.weight") * 2)[:60], "it ends at byte 60"),
}

if __name__ == "__main__":
    (HERE / "gguf").mkdir(exist_ok=True)
    for name, (data, _) in FILES.items():
        (HERE / "gguf" / name).write_bytes(data)
    (HERE / "gguf.json").write_text(json.dumps({name: error for name, (_, error) in FILES.items()}, indent=2) + "\n")
