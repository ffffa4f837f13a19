"""Checkpoints of ingot through torch.distributed.checkpoint: torch plans and talks, ingot stores.

::

    import torch.distributed.checkpoint as dcp
    import ingot, ingot.dcp

    dcp.save(state, storage_writer=ingot.dcp.StorageWriter(DIR, step=step, keep=ingot.Keep(last=3)))
    dcp.load(state, storage_reader=ingot.dcp.StorageReader(DIR))

What lies there is what ``ingot.Checkpointer`` leaves: docs/formats/checkpoint.md.
"""
from __future__ import annotations

import atexit
import collections
import dataclasses
import io
import json
import math
import os
import re
import secrets
import warnings
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import torch
import torch.distributed.checkpoint as torch_dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, ChunkStorageMetadata, Metadata, MetadataIndex, StorageMeta, TensorProperties, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from . import _ingot, devices, flat, nest, plans, reading
from .arguments import expand, fixed, metrics_of, number, outside, whole
from .checkpointer import Checkpointer, Keep, _model_files, _no_checkpoint, _none_can_be_taken, not_replaced, of_others, run_id, taken
from .plans import Assigned, Places, key_of
from .ranges import WHOLE, Ranges, objects_of
from .ranks import neighbours, rank_here
from .shares import DEFAULT_SHARD

__all__ = ["StorageReader", "StorageWriter"]


class _Resume(NamedTuple):
    """What this process has loaded last of a directory."""
    step: int
    run: str
    lease: int  # the epoch that was there then
    loads: int


class _Home(NamedTuple):
    """Of the coordinator: the directory that it saves into."""
    saver: Any
    options: Any       # what it was made with
    pid: int
    saved: List[int]   # steps, since the last load
    run: str
    backs: int         # how often a step was saved that is older than the last


_resumed: Dict[str, _Resume] = {}  # by directory
_homes: Dict[str, _Home] = {}
_arrived: Dict[str, "_Share"] = {}  # the newest by directory: what the coordinator says of the save under way
_tops: set = set()  # keys of the states that planners with a cache have planned


def _close_all() -> None:
    for home in _homes.values():
        if home.pid == os.getpid():
            try:
                home.saver.close()
            except Exception as e:  # of a save that dcp.save has raised already
                warnings.warn(f"closing: {e}", RuntimeWarning)
    _homes.clear()


atexit.register(_close_all)
_family: Tuple[int, str] = (0, "")  # of a process, and of those that save for it


def _family_of_this_process() -> str:
    global _family
    if _family[0] != os.getpid():
        _family = (os.getpid(), secrets.token_hex(8))
    return _family[1]


class _Carried(NamedTuple):
    """What a writer takes along into the process that saves (AsyncCheckpointerType.PROCESS)."""
    resume: Optional[_Resume]
    family: str
    taken: int  # the epoch that the process before has had, 0: none


class _Local:
    """What a rank says of its save before anything is planned. The items are those of its plan: they travel once."""

    def __init__(self, directory: str, step: int, items: Optional[List[Any]]) -> None:
        self.directory, self.step, self.items = directory, step, items


class _Share:
    """What the coordinator says to a rank. Where the planner keeps its plans (enable_plan_caching), finish_plan gives one of an earlier save, and what came with this one is dropped: so it makes itself known when it
    arrives."""

    def __init__(self, directory: str, **members: Any) -> None:
        self.__dict__.update(directory=directory, **members)

    def __setstate__(self, members: Dict[str, Any]) -> None:
        self.__dict__.update(members)
        _arrived[self.directory] = self


class _Told(NamedTuple):
    """What a rank tells of what it has written."""
    part: bytes
    values: Dict[str, Any]                             # trees, by names
    elements: Dict[str, int]                           # of each tensor
    indexed: List[Tuple[str, str, List[str], int]]     # (group, stem, names, bytes) of files that an index names


class StorageWriter(torch_dcp.StorageWriter):
    """For ``dcp.save`` and ``dcp.async_save`` (threads and processes), on every rank the same.

    directory: where the checkpoints are, or the ``Checkpointer`` of that directory, whose retention and other options then hold; ``step``: this one's. Another way to say which: ``checkpoint_id`` of dcp.save, the step
    or ``DIR/checkpoint-<step>``. keep: retention, by the coordinator, when the checkpoint is committed. metrics, model_files, max_shard_bytes, threads, compress, settle, run: as of ``Checkpointer``.

    Every rank writes its files, durable on return; the coordinator's ``finish`` writes the manifest last and gives the directory its name. A rank that dies, or an error on any, leaves the checkpoint before the newest.
    The plan is torch's; what several ranks have, and one would write most of, is divided between them (not with ``enable_plan_caching``). Values that are no tensors are kept as JSON, as in ``Checkpointer.save``;
    what cannot be kept is an ``ingot.StateError`` that names its key (in the CheckpointException that torch raises on all ranks).
    """

    def __init__(self, directory: Union[str, os.PathLike, Checkpointer], step: Optional[int] = None, *, keep: Optional[Keep] = None, metrics: Optional[Mapping[str, float]] = None,
                 model_files: Union[None, str, os.PathLike] = None, run: Optional[str] = None, threads: int = 0, max_shard_bytes: int = 0, compress: Optional[str] = None, settle: Optional[float] = None):
        super().__init__()
        self._checkpointer: Optional[Checkpointer] = None
        if isinstance(directory, Checkpointer):
            given = {"keep": keep, "model_files": model_files, "run": run, "threads": threads, "max_shard_bytes": max_shard_bytes, "compress": compress, "settle": settle}
            if any(given.values()):
                raise ValueError(f"StorageWriter: {', '.join(k for k, v in given.items() if v)} is the checkpointer's; give it there")
            ck = self._checkpointer = directory
            self._directory, self._rules, self._files, self._run = ck.directory, ck.keep._rules, ck._files, ck._run
            _, self._threads, self._shard, self._settle, _, self._compress = ck._options
        else:
            if not isinstance(keep, (Keep, type(None))):
                raise TypeError(f"StorageWriter: keep is {keep!r}, expected an ingot.Keep, as in Keep(last=3)")
            if compress not in (None, "zstd"):
                raise ValueError(f"StorageWriter: compress is None or 'zstd', not {compress!r}")
            self._directory = _no_checkpoint(fixed(expand(directory)))
            self._rules, self._files, self._run = (keep or Keep())._rules, _model_files(model_files), run_id() if run is None else run
            self._threads, self._shard = whole("StorageWriter: threads", threads, 0, 4096), whole("StorageWriter: max_shard_bytes", max_shard_bytes, 0)
            self._settle, self._compress = None if settle is None else number("StorageWriter: settle", settle, 0, most=1e9), compress is not None
        self._step = None if step is None else whole("StorageWriter: step", step, 0)
        self._metrics = metrics_of("StorageWriter", metrics)
        self._carried: Optional[_Carried] = None

    def __getstate__(self) -> Dict[str, Any]:
        """To the process that saves: with what this one has loaded, and under its lease."""
        carried = _Carried(self._resume(), _family_of_this_process(), taken.get(os.path.realpath(self._directory), 0))
        state = dict(self.__dict__, _carried=carried, _checkpointer=None)
        if self._checkpointer is not None:
            state["_run"] = self._run = self._checkpointer.run_id
            self._checkpointer._saved_by_processes = True
        return state

    def _resume(self) -> Optional[_Resume]:
        if self._carried is not None:
            return self._carried.resume
        ck = self._checkpointer
        if ck is not None and ck._resumes is not None:
            return _Resume(-1 if ck._parent is None else ck._parent, ck._run, ck._lease_seen or 0, ck._loads)
        return _resumed.get(os.path.realpath(self._directory))

    def _by_checkpointer(self) -> bool:
        """Whether it is the checkpointer's own engine that saves: not where another process does, or has."""
        return self._checkpointer is not None and not self._checkpointer._saved_by_processes

    @property
    def checkpoint_id(self) -> str:
        return self._directory if self._step is None else os.path.join(self._directory, f"checkpoint-{self._step}")

    def reset(self, checkpoint_id: Union[None, int, str, os.PathLike] = None) -> None:
        if checkpoint_id is None:
            return
        text = str(checkpoint_id) if isinstance(checkpoint_id, int) else expand(checkpoint_id).rstrip("/")
        m = re.fullmatch(r"(?:checkpoint-)?(\d+)", os.path.basename(text))
        above = os.path.dirname(text)
        if m is None or (above and not os.path.basename(text).startswith("checkpoint-")):
            raise ValueError(f"dcp.save: checkpoint_id is {checkpoint_id!r}; ingot's checkpoints are checkpoint-<step> of a directory: give StorageWriter(directory, step=step) and no checkpoint_id, "
                             "or the step, or DIR/checkpoint-<step>")
        if above and os.path.realpath(fixed(above)) != os.path.realpath(self._directory):
            raise ValueError(f"dcp.save: checkpoint_id is {checkpoint_id!r}, and the StorageWriter saves into {self._directory}")
        self._step = int(m[1])

    def storage_meta(self) -> Optional[StorageMeta]:
        return StorageMeta(checkpoint_id=self.checkpoint_id)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Union[str, os.PathLike]) -> bool:
        return re.fullmatch(r"checkpoint-\d+", os.path.basename(os.fspath(checkpoint_id).rstrip("/"))) is not None

    # -- the plan

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        if self._step is None:
            raise ValueError("StorageWriter: which step is it? Give StorageWriter(directory, step=step), or dcp.save(..., checkpoint_id=step)")
        if not kwargs.get("use_collectives", True):
            raise ValueError(f"saving step {self._step}: use_collectives=False leaves a checkpoint of each rank alone; a checkpoint of ingot is of all ranks")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return dataclasses.replace(plan, storage_data=_Local(self._directory, self._step, plan.items if getattr(plan, "usable", True) else None))

    def prepare_global_plan(self, plans_: List[SavePlan]) -> List[SavePlan]:
        # A planner that keeps its plans sends what has changed alone: then the ranks' plans stay as torch has made them, and nobody's files are named by what others have.
        caching = bool(getattr(SavePlanner, "_cached_all_plans", None))
        said = [p.storage_data for p in plans_]
        if not caching:  # else write_data finds out: what they have said is of another save, or gone
            _agree("steps", "step", [s.step for s in said])
            _agree("directories", "into", [os.path.normpath(s.directory) for s in said])
        tops = plans.tops_of(p for plan in plans_ for p in (plan.planner_data or {}).values())
        if caching:
            tops = _tops.union(tops)
            _tops.update(tops)
        places = Places.of(tops)
        assigned = [Assigned(p.items, {}) for p in plans_] if caching else plans.balanced([p.items for p in plans_], [s.items for s in said])
        paths: Dict[str, Tuple[Any, ...]] = {}
        for p in plans_:
            paths.update(p.planner_data or {})
        most = self._shard or DEFAULT_SHARD
        stems = plans.stems(assigned, lambda fqn: places.of_path(paths.get(fqn, (fqn,)))[0], most, caching)
        ticket = self._saver().begin_parts(self._step, sum(plans.bytes_of(i, a.cuts.get(key_of(i))) for a in assigned for i in a.items))
        out = []
        for rank, (plan, a) in enumerate(zip(plans_, assigned)):
            share = _Share(self._directory, step=self._step, ticket=ticket, rank=rank, world=len(plans_), flat=places.flat, stems=stems[rank], most=most, cuts=a.cuts)
            out.append(dataclasses.replace(plan, items=a.items, storage_data=share))
        _arrived[self._directory] = out[0].storage_data  # of the coordinator, which may get its own without a pickle
        return out

    def _saver(self) -> Any:
        """Whose lease it is under: the checkpointer's, or one for all writers of this process."""
        step, path = self._step, os.path.join(self._directory, f"checkpoint-{self._step}")
        if of_others(path):
            raise not_replaced(path, step)
        ck = self._checkpointer
        if ck is not None and self._by_checkpointer():
            if ck._ranks is not None and ck._ranks.rank:
                raise ValueError(f"saving step {step}: the coordinator of this process_group is rank {ck._ranks.rank}, and retention and the lease are the checkpointer's of rank 0; give StorageWriter a directory")
            newest = ck._saver.stats()["newest"] if ck._saver is not None else -1
            if newest == step:
                raise _saved_already(step, self._directory)
            if newest > step:
                ck._go_back()
            return ck._engine()
        key, resume = os.path.realpath(self._directory), self._resume()
        options = (json.dumps({**self._rules, "pinned": sorted(self._rules["pinned"])}), resume, self._threads, self._shard, self._settle, self._compress, self._run)
        home = _homes.get(key)
        if home is not None and home.pid != os.getpid():
            home = None
        if home is not None and home.options == options and step in home.saved:
            raise _saved_already(step, self._directory)
        if home is not None and home.options == options and (not home.saved or step > home.saved[-1]) and home.saver.epoch == _ingot.lease_epoch(self._directory):
            return home.saver
        carried = self._carried
        ours = carried.family if carried is not None else _family_of_this_process()
        family = f"{ours}-{resume.loads if resume is not None else 0}-"
        backs = 0
        if home is not None:
            del _homes[key]
            if home.options[1] == resume and home.saved and step < home.saved[-1]:
                backs = home.backs + 1  # another branch of the run: newer than what was saved before, whatever its steps are
            home.saver.close()
        if backs:
            family += f"{backs}-"
        seen = resume.lease if resume is not None else _ingot.lease_epoch(self._directory)
        seen = max(seen, taken.get(key, 0), carried.taken if carried is not None else 0)
        parent = resume.step if resume is not None and resume.step >= 0 else None
        run = self._run or (resume.run if resume is not None else "") or (home.run if home is not None else "") or ours
        saver = _ingot.Saver(self._directory, self._rules, False, self._threads, self._shard, run, parent, self._settle, devices.lock, devices.unlock, 0, self._compress, seen, None, family)
        taken[key] = saver.epoch
        _homes[key] = _Home(saver, options, os.getpid(), [], run, backs)
        return saver

    # -- the bytes

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[List[WriteResult]]":
        share = _arrived.get(self._directory)
        if share is None or share.step != self._step:
            why = "the coordinator saves into another directory, or has not sent its plan" if share is None else f"the coordinator saves step {share.step}: all ranks save the same, and one save ends before the next begins"
            raise ValueError(f"saving step {self._step} into {self._directory}: {why}")
        if not os.path.isdir(self._directory):
            raise _ingot.Error(f"saving step {self._step} into {self._directory}: rank {share.rank} does not see the directory; all ranks save into one that they share (the coordinator has made it)")
        packed = _Packed(share, plan, planner)
        rows = packed.rows()
        most = max([share.most, *(size for _, _, _, size in packed.indexed)])  # what has its number already is not cut once more
        part = _ingot.write_part(self._directory, share.ticket, share.rank, share.world, rows, self._threads, neighbours(), most, self._compress)
        told = _Told(part, packed.values, packed.elements, packed.indexed)
        done: Future = Future()
        done.set_result([WriteResult(index=MetadataIndex(f"rank {share.rank}"), size_in_bytes=packed.bytes, storage_data=told)])
        return done

    def finish(self, metadata: Metadata, results: List[List[WriteResult]]) -> None:
        share = _arrived[self._directory]
        said: List[_Told] = [r[0].storage_data for r in results]
        text = _state_text(metadata, said, Places(share.flat), self._step)
        ck = self._checkpointer
        saver = ck._engine() if ck is not None and self._by_checkpointer() else _homes[os.path.realpath(self._directory)].saver
        reported = ck._reported.pop(self._step, {}) if ck is not None else {}
        saver.publish_parts(self._step, text, {**self._files, **_indexes(said)}, {**reported, **self._metrics}, [t.part for t in said])
        if ck is not None:
            ck._saved_elsewhere()
        if not self._by_checkpointer():
            _homes[os.path.realpath(self._directory)].saved.append(self._step)
        for text in saver.notices():
            warnings.warn(text, RuntimeWarning, stacklevel=outside())


def _saved_already(step: int, directory: str) -> Exception:
    return ValueError(f"saving step {step} into {directory}: this run has saved that step already; give each save a step of its own")


def _agree(what: str, verb: str, said: List[Any]) -> None:
    others = [(r, s) for r, s in enumerate(said) if s != said[0]]
    if others:
        more = f" (and {len(others) - 4} more)" if len(others) > 4 else ""
        raise ValueError(f"the ranks save different {what}: rank 0 {verb} {said[0]}, " + ", ".join(f"rank {r} {verb} {s}" for r, s in others[:4]) + more)


class _Packed:
    """What a rank writes: entries by the stems of their files; values; and what it tells of both."""

    def __init__(self, share: _Share, plan: SavePlan, planner: SavePlanner) -> None:
        self.share = share
        self.values: Dict[str, Any] = {}
        self.elements: Dict[str, int] = {}
        self.indexed: List[Tuple[str, str, List[str], int]] = []
        self.entries: Dict[str, List[nest.Entry]] = {}
        self.bytes = 0
        paths = plan.planner_data or getattr(planner, "mappings", None) or {}
        places = Places(share.flat)
        self.packer = flat.Packer(places)
        rest = []
        for item in plan.items:
            path = paths.get(item.index.fqn, (item.index.fqn,))
            if item.type == WriteItemType.BYTE_IO:
                rest.append((item, path))
            else:
                self.tensor(item, places.of_path(path), planner)
        for item, path in rest:
            value = _value_of(item, planner)
            if not paths and isinstance(value, (dict, list)) and not isinstance(value, str):
                raise nest.StateError(f"{item.index.fqn}: a {type(value).__name__}, and the planner leaves the state as it is (flatten_state_dict=False): then it is a dict of tensors and plain values alone")
            self.values[item.index.fqn] = self.packer.pack(value, tuple(map(str, path)))
        nest._tell(self.packer.plainly)

    def tensor(self, item: Any, place: Tuple[str, str], planner: SavePlanner) -> None:
        fqn, cut = item.index.fqn, self.share.cuts.get(key_of(item))
        size, chunk = tuple(item.tensor_data.size), item.tensor_data.chunk
        found = planner.resolve_data(item)
        type_name, data = nest.dense(found, fqn)
        if tuple(data.shape) != tuple(chunk.sizes):
            raise nest.StateError(f"{fqn}: the plan has a part of {list(chunk.sizes)} at {list(chunk.offsets)}, and the tensor there is {list(data.shape)}")
        offset = list(chunk.offsets)
        if cut is not None:
            data, offset[0] = data[cut.first:cut.first + cut.rows], offset[0] + cut.first
        part = tuple(data.shape) != size
        self.elements[fqn] = self.elements.get(fqn, 0) + data.numel()
        if part and not data.numel():
            if math.prod(size) or any(offset):
                return  # nothing of it is here
            data, part = data.new_empty(size), False
        data = data.cpu().contiguous()
        group, name = place
        e = nest.Entry(group, self.packer.free(group, name), type_name, tuple(data.shape), data.data_ptr(), False, (found, data))
        if part:
            e.part = (name, size, tuple(offset))
        elif e.name != name:
            raise nest.StateError(f"{fqn}: two tensors of the state are called '{name}' in '{group}'")
        self.entries.setdefault(group, []).append(e)
        self.bytes += e.bytes

    def rows(self) -> List[Tuple[str, str, List[Any]]]:
        """As the engine takes them."""
        out: Dict[Tuple[str, str], List[nest.Entry]] = {}
        for group, members in self.entries.items():
            stems = self.share.stems.get(group) or [_ingot.rank_stem(group, self.share.rank)]
            runs = [members] if len(stems) == 1 else [[members[i] for i in run] for run in plans.shard_runs([e.bytes for e in members], self.share.most)]
            for stem, run in zip(stems, runs):
                out[group, stem] = run
                if "-of-" in stem:
                    self.indexed.append((group, stem, [e.name for e in run], sum(e.bytes for e in run)))
        for e in self.packer.entries:  # within values: nobody has planned for them
            out.setdefault((e.group, _ingot.rank_stem(e.group, self.share.rank)), []).append(e)
        return [(group, "" if stem == group else stem, [(e.name, e.type, e.shape, e.address, False, e.part) for e in run]) for (group, stem), run in out.items()]


def _value_of(item: Any, planner: SavePlanner) -> Any:
    """The object itself; torch's planner makes a pickle of it."""
    ours = isinstance(planner, torch_dcp.DefaultSavePlanner)
    if ours and type(planner).transform_object is torch_dcp.DefaultSavePlanner.transform_object and type(planner).resolve_data is torch_dcp.DefaultSavePlanner.resolve_data:
        return planner.lookup_object(item.index)
    given = planner.resolve_data(item)
    if not isinstance(given, io.BytesIO):
        return given
    given.seek(0)
    try:
        return torch.load(given, weights_only=True)
    except Exception as e:  # pickle's, and torch's own
        raise nest.StateError(f"{item.index.fqn}: the planner {type(planner).__name__} makes bytes of it that are no plain values: {e}") from e


def _state_text(metadata: Metadata, said: List[_Told], places: Places, step: int) -> str:
    """state.json, when all have written."""
    paths = metadata.planner_data or {}
    values = {fqn: tree for t in said for fqn, tree in t.values.items()}
    there: Dict[str, int] = {}
    for t in said:
        for fqn, n in t.elements.items():
            there[fqn] = there.get(fqn, 0) + n
    leaves: Dict[Tuple[Any, ...], Any] = {}
    for fqn in dict.fromkeys([*(k for k in paths if k in metadata.state_dict_metadata), *metadata.state_dict_metadata]):
        stored, path = metadata.state_dict_metadata[fqn], tuple(paths.get(fqn, (fqn,)))
        if isinstance(stored, BytesStorageMetadata):
            if fqn not in values:
                raise _ingot.Error(f"saving step {step}: no rank has written '{fqn}', which is in the plan")
            leaves[path] = values[fqn]
            continue
        whole_size = math.prod(stored.size)
        if there.get(fqn, -1) != whole_size:
            raise _ingot.Error(f"saving step {step}: of the {whole_size} elements of '{fqn}' the ranks have written {there.get(fqn, 0)}: its parts overlap, or some are missing")
        leaves[path] = {"$tensor": list(places.of_path(path))}
    text = json.dumps({"ingot": "state", "version": 1, "state": flat.tree_of(leaves)}, ensure_ascii=False, allow_nan=False)
    if len(text) > nest.MOST_TEXT / 4 and len(text.encode()) > nest.MOST_TEXT:
        raise nest.StateError(f"saving step {step}: the plain values of the state take {len(text.encode())} bytes as JSON; at most {nest.MOST_TEXT} are kept: make tensors of them")
    return text


def _indexes(said: List[_Told]) -> Dict[str, bytes]:
    """Of groups in several files, as transformers reads them."""
    groups: Dict[str, List[Tuple[str, List[str], int]]] = {}
    for t in said:
        for group, stem, names, size in t.indexed:
            groups.setdefault(group, []).append((stem, names, size))
    return {f"{group}.safetensors.index.json": json.dumps({"metadata": {"total_size": sum(size for _, _, size in files)},
                                                          "weight_map": {name: stem + ".safetensors" for stem, names, _ in sorted(files) for name in names}}).encode()
            for group, files in groups.items()}


class StorageReader(torch_dcp.StorageReader):
    """For ``dcp.load``, on every rank the same, at any number of ranks.

    path: a directory of checkpoints, of which the newest whole one is taken (or that of ``step``); a checkpoint's own path; or a ``Checkpointer``, which then goes on from it. Each rank reads the ranges that its plan
    asks for, and no file is a pickle. ``verify``: None compares the hashes of the files that a rank reads as good as whole (all of them, where the ranks are as many as have saved); True those of all files, each read by one of
    the ranks; False none. A damaged checkpoint is an error that names the file, and where a directory was given it is put aside: the next load takes the one before.

    After the load: ``step``, ``metrics``, and ``bytes_read`` of this rank. What ``Checkpointer.save`` wrote is loaded, too, by the same names.
    """

    def __init__(self, path: Union[str, os.PathLike, Checkpointer], step: Optional[int] = None, *, verify: Optional[bool] = None, threads: int = 0):
        super().__init__()
        self._checkpointer = path if isinstance(path, Checkpointer) else None
        self._path = path.directory if isinstance(path, Checkpointer) else expand(path)
        self._step = None if step is None else whole("StorageReader: step", step, 0)
        self._verify, self._threads = verify, whole("StorageReader: threads", threads, 0, 4096)
        self._forget()

    def _forget(self) -> None:
        self._error: Optional[BaseException] = None
        self._found: Any = None
        self.bytes_read = 0

    @property
    def step(self) -> int:
        if self._found is None:
            raise ValueError("StorageReader: nothing has been loaded yet")
        return self._found.step

    @property
    def metrics(self) -> Dict[str, float]:
        return dict(self._found.metrics) if self._found is not None else {}

    @property
    def checkpoint_id(self) -> str:
        return self._found.path if self._found is not None else self._path

    def reset(self, checkpoint_id: Union[None, str, os.PathLike] = None) -> None:
        self._forget()
        if checkpoint_id is not None:
            self._path, self._step = expand(checkpoint_id), None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Union[str, os.PathLike]) -> bool:
        return os.path.isfile(os.path.join(os.fspath(checkpoint_id), "manifest.json"))

    def read_metadata(self, *args: Any) -> Metadata:
        try:
            return self._read_metadata()
        except Exception as e:  # told by set_up_storage_reader: of one that is raised here torch tells that "metadata is None"
            self._error = e
            return Metadata({})

    def _read_metadata(self) -> Metadata:
        self._forget()
        self._found, self._of_directory = _find(self._path, self._step)
        found = self._found
        self._lease = _ingot.lease_epoch(os.path.dirname(os.path.realpath(found.path)))
        tree, _ = reading._tree_of(found, rank_here())
        if tree is None:
            raise _ingot.Error(f"{found.path} is a checkpoint of a trainer, whose state is in files of its own: attach ingot to that trainer (ingot.transformers, ingot.accelerate) and resume there")
        try:
            self._flat = flat.flat_of(tree)
        except nest.UNREADABLE as e:
            raise _ingot.BadInput(f"{found.path}/state.json: it is no state: {type(e).__name__}: {e}") from None
        self._stored = reading.Stored(found)
        stored: Dict[str, Any] = {}
        for fqn in self._flat.paths:
            place = self._flat.tensors.get(fqn)
            if place is None:
                stored[fqn] = BytesStorageMetadata()
                continue
            type_name, shape = self._stored.form(place)
            dtype = getattr(torch, nest.TYPE_NAMES.get(type_name, ""), None)
            if dtype is None:
                raise _ingot.BadInput(f"{found.path}: '{place[1]}' of '{place[0]}' is {type_name}, which torch has not")
            chunks = [ChunkStorageMetadata(torch.Size(p.offset), torch.Size(p.shape)) for p in self._stored.pieces[place]]
            stored[fqn] = TensorStorageMetadata(TensorProperties(dtype=dtype), torch.Size(shape), chunks)
        self._pieces = {(fqn, p.offset): p for fqn, place in self._flat.tensors.items() for p in self._stored.pieces[place]}
        return Metadata(stored, planner_data=dict(self._flat.paths), storage_meta=StorageMeta(checkpoint_id=found.path))

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        if self._error is not None:
            raise self._error

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, storage_data=f"{os.path.basename(self._found.path)} of run {self._found.run}")

    def prepare_global_plan(self, plans_: List[LoadPlan]) -> List[LoadPlan]:
        try:
            _agree("checkpoints", "finds", [p.storage_data for p in plans_])
        except ValueError as e:
            raise _ingot.Error(f"loading from {self._path}: {str(e).replace('save different', 'find different')}: one is being saved or removed, or not all of them see it yet; give StorageReader the step") from None
        besides = self._unread(plans_) if self._verify else [()] * len(plans_)
        return [dataclasses.replace(p, storage_data=b) for p, b in zip(plans_, besides)]

    def _unread(self, plans_: List[LoadPlan]) -> List[Tuple[str, ...]]:
        """The files that no rank reads as good as whole, whose hashes are compared for all that: each a rank's."""
        objects, read = objects_of(self._found), collections.Counter()
        for rank, plan in enumerate(plans_):
            for item in plan.items:
                if item.type != LoadItemType.BYTE_IO:
                    fqn, offset = item.storage_index.fqn, tuple(item.storage_index.offset or ())
                    size = nest.bytes_of(self._stored.forms[self._flat.tensors[fqn]][0])
                    read[rank, self._pieces[fqn, offset].file] += math.prod(item.lengths) * size
        whole_ones = {f for (_, f), n in read.items() if n >= WHOLE * objects[f]["bytes"]}
        rest = sorted(f for f in objects if f not in whole_ones)
        return [tuple(rest[rank::len(plans_)]) for rank in range(len(plans_))]

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        ranges, values = Ranges(self._found), []
        filled = []
        for item in plan.items:
            if item.type == LoadItemType.BYTE_IO:
                values.append((item, self._value(item.storage_index.fqn, ranges)))
                continue
            target = planner.resolve_tensor(item).detach()
            fqn, offset = item.storage_index.fqn, tuple(item.storage_index.offset or ())
            piece = self._pieces[fqn, offset]
            if tuple(target.shape) != tuple(item.lengths):
                raise ValueError(f"{fqn}: the plan reads {list(item.lengths)} of it, and the tensor for that is {list(target.shape)}")
            ranges.box(self._stored.forms[self._flat.tensors[fqn]][0], piece, tuple(item.storage_offsets), target)
            filled.append((item, target))
        try:
            ranges.read(self._threads, self._verify is not False, plan.storage_data or ())
        except _ingot.BadInput as e:
            if self._of_directory:
                try:
                    self._found.quarantine(str(e))
                except _ingot.Error:
                    pass  # a directory that is read only
            raise
        self.bytes_read = ranges.bytes_read
        for item, target in filled:
            planner.commit_tensor(item, target)
        for item, value in values:
            if value is nest.STAYING:
                continue
            # A planner takes bytes of torch.save: they are made here, of what is plain already.
            into = io.BytesIO()
            torch.save(value, into)
            into.seek(0)
            planner.load_bytes(item, into)
        self._loaded()
        done: Future = Future()
        done.set_result(None)
        return done

    def _value(self, fqn: str, ranges: Ranges) -> Any:
        def tensor(kind: str, group: str, name: str) -> Any:
            place = (group, name)
            type_name, shape = self._stored.form(place)
            made, _ = nest.empty(kind, type_name, shape)
            for piece in self._stored.pieces[place]:
                where = made[tuple(slice(o, o + n) for o, n in zip(piece.offset, piece.shape))] if shape else made
                ranges.box(type_name, piece, (0,) * len(piece.shape), where)
            return made
        return nest.unpack(self._flat.trees[fqn], tensor, nest._INSIDE)

    def _loaded(self) -> None:
        """What a save of this process goes on from."""
        found = self._found
        above = os.path.dirname(os.path.realpath(found.path))
        loads = _resumed[above].loads + 1 if above in _resumed else 1
        _resumed[above] = _Resume(found.step, found.run, self._lease, loads)
        if self._checkpointer is not None:
            self._checkpointer._loaded_elsewhere(found, self._lease)


def _find(path: str, step: Optional[int]) -> Tuple[Any, bool]:
    """The checkpoint, and whether it was looked for in a directory."""
    path = path.rstrip("/") or "/"
    if os.path.basename(path) == "latest" and not os.path.isdir(path):
        path = os.path.dirname(path) or "."
    if not os.path.isdir(path):
        raise _ingot.Error(f"loading from {path}: there is no such directory")
    if step is not None:
        path = os.path.join(path, f"checkpoint-{step}")
        if not os.path.isdir(path):
            raise _ingot.Error(f"loading step {step}: {path} is not there; 'ingot checkpoint ls {os.path.dirname(path)}' shows what is")
    _refuse_plain(path)
    there = [] if os.path.isfile(os.path.join(path, "manifest.json")) else _ingot.scan(path)
    if not there:
        found = _ingot.look_at(path)
        if found.state == "whole":
            return found, False
        if found.state == "unverified" or not re.fullmatch(r"checkpoint-\d+", os.path.basename(path)):
            raise _ingot.Error(f"loading from {path}: there is no checkpoint of ingot in it (no manifest.json); ask ingot.latest(DIR) first where a run may begin afresh")
        raise _ingot.BadInput(f"loading {path}: it is {found.state}: {found.reason}")
    newer = [f for f in there if f.state == "newer"]
    if newer:
        raise _ingot.Error(newer[0].reason)
    good = [f for f in there if f.state == "whole"]
    if not good:
        aside = [f for f in there if f.state in ("quarantined", "torn")]
        if aside:
            raise _none_can_be_taken(path, "; ".join(f"{os.path.basename(f.path)}: {f.reason}" for f in aside[:3]))
        _refuse_plain(there[0].path)
        raise _ingot.Error(f"loading from {path}: other software made the checkpoints in it (no manifest.json)")
    for f in there:
        if f.state in ("torn", "quarantined") and f.step > good[0].step:
            warnings.warn(f"{f.path} is passed over: {f.reason}", RuntimeWarning, stacklevel=outside())
    return good[0], True


def _refuse_plain(path: str) -> None:
    if os.path.isfile(os.path.join(path, ".metadata")) and not os.path.isfile(os.path.join(path, "manifest.json")):
        raise _ingot.Error(f"loading {path}: it is a checkpoint of torch's own storage (.metadata, *.distcp): torch.distributed.checkpoint.FileSystemReader({path!r}) reads it into the same state, and the next save through "
                           "ingot.dcp.StorageWriter makes one of ingot of it")
