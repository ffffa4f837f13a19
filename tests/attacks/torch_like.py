"""torch.save, torch.distributed.checkpoint's .metadata and DeepSpeed's files as far as hostile copies of them need it, in plain Python."""
import collections, io, pickle, struct, sys, types, zipfile


def module(name, **members):
    m = sys.modules.setdefault(name, types.ModuleType(name))
    for k, v in members.items():
        v.__module__, v.__qualname__, v.__name__ = name, k, k
        setattr(m, k, v)


def function(*a):
    raise NotImplementedError


class Storage:
    def __init__(s, values):
        s.values = values


class Tensor:
    """float32, contiguous."""
    def __init__(s, shape, values):
        s.shape, s.storage = tuple(shape), Storage(list(values))

    def __reduce__(s):
        strides = [1] * len(s.shape)
        for i in range(len(s.shape) - 1, 0, -1):
            strides[i - 1] = strides[i] * s.shape[i]
        return _rebuild_tensor_v2, (s.storage, 0, s.shape, tuple(strides), False, collections.OrderedDict())


class Size(tuple):
    def __reduce__(s):
        return Size, (tuple(s),)


class FloatStorage: pass
class float32: pass
class _rebuild_tensor_v2: pass
class Metadata: pass
class TensorStorageMetadata: pass
class BytesStorageMetadata: pass
class TensorProperties: pass
class ChunkStorageMetadata: pass
class MetadataIndex: pass
class _StorageInfo: pass
class fragment_address: pass


module("torch", FloatStorage=FloatStorage, float32=float32, Size=Size)
module("torch._utils", _rebuild_tensor_v2=_rebuild_tensor_v2)
module("torch.distributed.checkpoint.metadata", Metadata=Metadata, TensorStorageMetadata=TensorStorageMetadata, BytesStorageMetadata=BytesStorageMetadata,
       TensorProperties=TensorProperties, ChunkStorageMetadata=ChunkStorageMetadata, MetadataIndex=MetadataIndex)
module("torch.distributed.checkpoint.filesystem", _StorageInfo=_StorageInfo)
module("deepspeed.utils.tensor_fragment", fragment_address=fragment_address)


def record(cls, **attributes):
    r = cls()
    r.__dict__ |= attributes
    return r


def save(value):
    """torch.save(value) as bytes."""
    storages, out = [], io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(s, x):
            if not isinstance(x, Storage):
                return None
            if x not in storages:
                storages.append(x)
            return "storage", FloatStorage, str(storages.index(x)), "cpu", len(x.values)

    Pickler(out, 2).dump(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        for name, data in [("data.pkl", out.getvalue()), ("byteorder", b"little")] + [(f"data/{i}", struct.pack(f"<{len(s.values)}f", *s.values)) for i, s in enumerate(storages)] + [("version", b"3\n")]:
            z.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return file.getvalue()


def numel(shape):
    n = 1
    for d in shape:
        n *= d
    return n
