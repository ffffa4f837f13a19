"""Hostile directories of torch.distributed.checkpoint, each with a part of the error that it must give: writes dcp/NAME and dcp.tsv (NAME, error). Plain Python."""
import os, pickle, shutil
from torch_like import *
from torch_like import _StorageInfo

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = []


class Dcp:
    """A tensor "w" of 4 x 3 in two chunks of two ranks, and the value "step"; what differs is a lie."""
    def __init__(s, size=(4, 3), chunks=(((0, 0), (2, 3)), ((2, 0), (2, 3))), dtype=float32, path="__{}_0.distcp", transforms=None, stored=None):
        s.files, s.places = {}, {}
        s.lies = {}
        meta = record(TensorStorageMetadata, properties=record(TensorProperties, dtype=dtype), size=Size(size), chunks=[record(ChunkStorageMetadata, offsets=Size(o), sizes=Size(n)) for o, n in chunks])
        state = {"w": meta, "step": record(BytesStorageMetadata)}
        for rank, (o, n) in enumerate(stored if stored is not None else chunks):
            data = save(Tensor(n, range(max(0, min(numel(n), 64)))))
            name = f"__{rank}_0.distcp"
            s.files[name] = data
            s.places[record(MetadataIndex, fqn="w", offset=Size(o), index=rank)] = record(_StorageInfo, relative_path=path.format(rank), offset=0, length=len(data), transform_descriptors=transforms)
        data = save(3)
        s.places[record(MetadataIndex, fqn="step", offset=None, index=None)] = record(_StorageInfo, relative_path="__0_0.distcp", offset=len(s.files["__0_0.distcp"]), length=len(data), transform_descriptors=None)
        s.files["__0_0.distcp"] += data
        s.files[".metadata"] = pickle.dumps(record(Metadata, state_dict_metadata=state, planner_data={"w": ("w",), "step": ("step",)}, storage_data=s.places), 4)


def put(name, files, error):
    shutil.rmtree(f"{HERE}/dcp/{name}", ignore_errors=True)
    os.makedirs(f"{HERE}/dcp/{name}")
    for file, data in files.items():
        with open(f"{HERE}/dcp/{name}/{file}", "wb") as f:
            f.write(data)
    ROWS.append((name, error))


def without(files, *names):
    return {k: v for k, v in files.items() if k not in names}


good = Dcp().files
put("good", good, "")
put("replicated", Dcp(chunks=[((0, 0), (4, 3)), ((0, 0), (4, 3))], stored=[((0, 0), (4, 3))]).files, "")
put("empty-shard", Dcp(chunks=[((0, 0), (4, 3)), ((4, 0), (0, 3))], stored=[((0, 0), (4, 3))]).files, "")
put("gap", Dcp(chunks=[((0, 0), (2, 3)), ((3, 0), (1, 3))]).files, "of tensor 'w' [4, 3] do not fill it once: element [2, 0] lies in no chunk")
put("gap-in-rows", Dcp(chunks=[((0, 0), (4, 2)), ((2, 2), (2, 1))]).files, "element [0, 2] lies in no chunk")
put("overlap", Dcp(chunks=[((0, 0), (3, 3)), ((2, 0), (2, 3))]).files, "element [2, 0] lies in 2 chunks")
put("overlap-and-gap", Dcp(chunks=[((0, 0), (2, 3)), ((1, 0), (2, 3))]).files, "element [1, 0] lies in 2 chunks")
put("no-chunks", Dcp(chunks=[], stored=[((0, 0), (4, 3))]).files, "element [0, 0] lies in no chunk")
put("beyond", Dcp(chunks=[((0, 0), (2, 3)), ((2, 0), (3, 3))]).files, "a chunk reaches from 2 to 5 in dimension 0, the tensor to 4")
put("negative", Dcp(chunks=[((0, 0), (2, 3)), ((-2, 0), (2, 3))]).files, "an offset is none")
put("overflow", Dcp(size=(1 << 40, 1 << 40)).files, "the shape overflows")
put("zero-hides-overflow", Dcp(size=(0, 1 << 40, 1 << 40), chunks=[], stored=[((0, 0), (4, 3))]).files, "the shape overflows")
put("nine-dimensions", Dcp(size=(1,) * 9, chunks=[], stored=[((0, 0), (4, 3))]).files, "the shape is none of at most 8 dimensions")
put("dimensions-differ", Dcp(chunks=[((0,), (4,))]).files, "a chunk has no offsets and sizes of 2 dimensions")
put("no-place", Dcp(stored=[((0, 0), (2, 3))]).files, "no file is told in which the chunk [2:4, 0:3] lies")
put("dtype", Dcp(dtype=pickle.Pickler).files, "has the type _pickle.Pickler, which ingot does not know")
put("up", Dcp(path="../__{}_0.distcp").files, "which is outside the directory; refused")
put("absolute", Dcp(path="/__{}_0.distcp").files, "which is outside the directory; refused")
put("transformed", Dcp(transforms=("zstd",)).files, "is stored transformed (zstd)")
put("rank-missing", without(good, "__1_0.distcp"), "of the 2 files that its .metadata names 1 is missing: __1_0.distcp; parts of 'w' lie there")
put("short", good | {"__1_0.distcp": good["__1_0.distcp"][:-1]}, "bytes at byte 0 of __1_0.distcp, which has")
put("unfinished", without(good, ".metadata") | {".metadata.tmp": good[".metadata"]}, "no .metadata, only .metadata.tmp: the save did not end")
put("no-metadata", without(good, ".metadata"), "no .metadata: the save did not end")
put("empty-metadata", good | {".metadata": b""}, "it is empty: the save did not end")
put("half-metadata", good | {".metadata": good[".metadata"][:len(good[".metadata"]) // 2]}, "the pickle claims")
put("other-pickle", good | {".metadata": pickle.dumps({"a": 1}, 4)}, "but of no Metadata of torch.distributed.checkpoint")
put("code", good | {".metadata": b"cos\nsystem\n(X\x02\x00\x00\x00idtR."}, "asks to call os.system")
put("value-damaged", good | {"__0_0.distcp": good["__0_0.distcp"][:-30] + bytes(30)}, "it begins as a ZIP archive, but has no end record")

with open(f"{HERE}/dcp.tsv", "w") as f:
    f.writelines(f"{name}\t{error}\n" for name, error in ROWS)
