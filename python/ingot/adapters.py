"""A PeftModel is kept as PEFT keeps it: ``adapter_model.safetensors`` and ``adapter_config.json`` with PEFT's names, so that PEFT loads the checkpoint as an adapter. Its base is
named, and known by the hashes of its tensors; what PEFT leaves out and a run needs to go on exactly (buffers, parameters that train beside the adapters) is kept apart."""
from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import warnings
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _ingot, nest, sharded
from .arguments import outside

EXTRA = "adapter_extra"
_AT_ONCE = 256 << 20  # bytes that are copied to the host for hashing

# Of each model: whether PEFT saves the embeddings with an adapter, which may take a look at the Hub; the base's tensors as they were first seen.
_embeddings: "weakref.WeakKeyDictionary[Any, Dict[str, bool]]" = weakref.WeakKeyDictionary()
_bases: "weakref.WeakKeyDictionary[Any, Dict[str, List[Any]]]" = weakref.WeakKeyDictionary()

# What a configuration may say otherwise without the model being another.
_FREE = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "runtime_config", "target_modules", "lora_dropout", "init_lora_weights", "task_type"}


def is_peft(x: Any) -> bool:
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(x, peft.PeftModel)


def adapters_of(model: Any) -> List[str]:
    """PEFT's "default" first, then as they were added; the first has PEFT's own names of files."""
    names = list(model.peft_config)
    return sorted(names, key=lambda n: n != "default")


def tensors_of(model: Any, adapter: str, state: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """The live tensors of an adapter by PEFT's names. state: the model's state_dict, where it is at hand."""
    from peft import get_peft_model_state_dict

    def get(embeddings: Any) -> Dict[str, Any]:
        found = get_peft_model_state_dict(model, state_dict=state, adapter_name=adapter, save_embedding_layers=embeddings)
        return {k: v for k, v in found.items() if hasattr(v, "data_ptr")}
    known = _embeddings.setdefault(model, {})
    if adapter in known:
        return get(known[adapter])
    found = get("auto")
    known[adapter] = found.keys() != get(False).keys()
    return found


def config_of(model: Any, adapter: str) -> bytes:
    """adapter_config.json as save_pretrained writes it."""
    config = model.peft_config[adapter]
    before = config.base_model_name_or_path, config.inference_mode
    mapping = None
    if config.task_type is None:
        base = model._get_base_model_class(is_prompt_tuning=config.is_prompt_learning)
        mapping = {"base_model_class": base.__name__, "parent_library": base.__module__}
    try:
        config.base_model_name_or_path, config.inference_mode = name_of_base(model, adapter), True
        with tempfile.TemporaryDirectory() as directory:
            config.save_pretrained(directory, auto_mapping_dict=mapping)
            with open(os.path.join(directory, "adapter_config.json"), "rb") as f:
                return f.read()
    finally:
        config.base_model_name_or_path, config.inference_mode = before


def name_of_base(model: Any, adapter: str) -> Optional[str]:
    named = model.peft_config[adapter].base_model_name_or_path
    return named or getattr(model.get_base_model(), "name_or_path", None) or None


def _plain_name(name: str) -> str:
    """A base's tensor as the base alone names it."""
    name = name.removeprefix("base_model.model.") if name.startswith("base_model.model.") else name.removeprefix("base_model.")
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")


def _addresses(tensors: Any) -> set:
    return {sharded.plain(t).data_ptr() for t in tensors}


def base_of(model: Any) -> Dict[str, List[Any]]:
    """{name: [type, shape, hash]} of the parameters that were frozen and no adapter's when the model was first looked at: their bytes are hashed then, and once. A hash is "" for
    one whose bytes are elsewhere (the meta device: offloaded)."""
    if model in _bases:
        return _bases[model]
    if any(getattr(m, "merged", False) is True for m in model.modules()):
        raise nest.StateError("the adapter is merged into its base, so that the base cannot be told: unmerge_adapter() before the first save or restore")
    mine = set().union(*(_addresses(tensors_of(model, a).values()) for a in model.peft_config))
    frozen = [(_plain_name(n), sharded.plain(p.detach())) for n, p in model.named_parameters() if not p.requires_grad]
    frozen = [(n, t) for n, t in frozen if t.is_meta or t.data_ptr() not in mine]
    out: Dict[str, List[Any]] = {n: [nest.type_of(t), list(t.shape), ""] for n, t in frozen}
    batch: List[Tuple[str, Any]] = []

    def hash_batch() -> None:
        for (name, _), found in zip(batch, _ingot.hashes([(t.data_ptr(), t.nbytes) for _, t in batch], 0)):
            out[name][2] = found
        batch.clear()
    copied = 0
    for name, t in frozen:
        if t.is_meta:
            continue
        here = t if t.device.type == "cpu" and t.is_contiguous() else t.cpu().contiguous()
        copied += 0 if here is t else here.nbytes
        batch.append((name, here))
        if copied > _AT_ONCE:
            hash_batch()
            copied = 0
    hash_batch()
    _bases[model] = out
    return out


def prepare(x: Any) -> None:
    """Hashes the bases now rather than in the first save."""
    if is_peft(nest.unwrapped(x)):
        base_of(nest.unwrapped(x))
    elif type(x) in (dict, list, tuple):
        for value in x.values() if isinstance(x, dict) else x:
            prepare(value)


def _extra_of(model: Any, state: Dict[str, Any], kept: set) -> Dict[str, Any]:
    """What PEFT does not keep and may change: parameters that are not the base's any more, and buffers, by their names in the module's state_dict."""
    base = base_of(model)
    changing = {n for n, p in model.named_parameters() if p.requires_grad or _plain_name(n) not in base} | {n for n, _ in model.named_buffers()}
    return {n: t for n, t in state.items() if n in changing and hasattr(t, "data_ptr") and sharded.plain(t).data_ptr() not in kept}


def _hash_of(text: str) -> str:
    data = text.encode()
    memory = ctypes.create_string_buffer(data, max(1, len(data)))
    return _ingot.hashes([(ctypes.addressof(memory), len(data))], 1)[0]


def _described(tensors: Dict[str, List[Any]]) -> str:
    return "".join(f"{n} {t} {shape} {h}\n" for n, (t, shape, h) in sorted(tensors.items()))


def _file_of(packer: Any, parts: List[str]) -> str:
    """What stands between "adapter_model" or "adapter_config" and the ending: nothing for PEFT's own names."""
    words = ["".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in p)[:60] or "_" for p in parts]
    name = base = ".".join([""] + words) if words else ""
    n = 1
    while f"adapter_model{name}" in packer.names or f"adapter_model{name}" in packer.reserved:
        n += 1
        name = f"{base}.{n}"
    return name


def pack(packer: Any, model: Any, path: Tuple[str, ...]) -> Dict[str, Any]:
    base, state = dict(base_of(model)), model.state_dict()
    kept: set = set()
    out: Dict[str, Any] = {}
    of_model = [] if "adapter_model" not in packer.names else list(path)
    for i, adapter in enumerate(adapters_of(model)):
        tensors = tensors_of(model, adapter, state)
        kept |= _addresses(tensors.values())
        config = config_of(model, adapter)
        if packer.groups:
            end = _file_of(packer, of_model + ([adapter] if i else []))
            packer.names[f"adapter_model{end}"] = set()
            packer.fixed = f"adapter_model{end}"
            packer.files[f"adapter_config{end}.json"] = config
        try:
            out[adapter] = {"config": json.loads(config), "tensors": {n: packer.tensor(t, path + (adapter, n)) for n, t in tensors.items()}}
        finally:
            packer.fixed = None
    extra = _extra_of(model, state, kept)
    for name in extra:
        base.pop(_plain_name(name), None)
    first = adapters_of(model)[0]
    reference = {"name": name_of_base(model, first), "revision": getattr(model.peft_config[first], "revision", None) or getattr(getattr(model, "config", None), "_commit_hash", None),
                 "hash": _hash_of(_described(base)), "tensors": base}
    where = (EXTRA,) if packer.groups and EXTRA not in packer.reserved and len(path) == 1 else path + (EXTRA,)
    return {"$peft": {"adapters": out, "extra": {n: packer.tensor(t, where + (n,)) for n, t in extra.items()}, "base": reference}}


def _some(names: List[str]) -> str:
    return ", ".join(repr(n) for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _base_differs(model: Any, stored: Dict[str, Any], trained: List[str]) -> str:
    """How the live base is another than the one that was trained on; "" where it is the same. trained: what is the base's, and in the checkpoint."""
    mine, theirs = base_of(model), stored["tensors"]
    named = f"'{stored['name']}'{' revision ' + stored['revision'] if stored['revision'] else ''}" if stored["name"] else "one without a name"
    ours = {_plain_name(n) for n, _ in model.named_parameters()}
    missing, extra = [n for n in theirs if n not in ours], [n for n in mine if n not in theirs and n not in {_plain_name(t) for t in trained}]
    both = [n for n in theirs if n in mine]
    forms = [n for n in both if mine[n][:2] != theirs[n][:2]]
    bytes_ = [n for n in both if n not in forms and mine[n][2] and theirs[n][2] and mine[n][2] != theirs[n][2]]
    said = [f"it has no {_some(missing)}"] if missing else []
    said += [f"the one of the checkpoint has no {_some(extra)}"] if extra else []
    if forms:
        n = forms[0]
        said.append(f"'{n}' is {mine[n][0]} {mine[n][1]}, there {theirs[n][0]} {theirs[n][1]}{f' (and {len(forms) - 1} more)' if len(forms) > 1 else ''}")
    if bytes_:
        said.append(f"{len(bytes_)} of its {len(both)} tensors have other values: {_some(bytes_)}")
    return f"the base is another than the one it was trained on, {named}: {'; '.join(said)}" if said else ""


def match(model: Any, tree: Dict[str, Any], where: str, tensors: Callable[..., None]) -> List[str]:
    """What does not fit; ``tensors(where, live, trees, in_place)`` compares and notes those of one adapter."""
    stored = tree["$peft"]
    problems = []
    names = list(model.peft_config)
    missing, unknown = [a for a in names if a not in stored["adapters"]], [a for a in stored["adapters"] if a not in names]
    if missing:
        problems.append(f"'{where}': the checkpoint has no adapter {_some(missing)}")
    if unknown:
        problems.append(f"'{where}': the model has no adapter {_some(unknown)}: add_adapter(name, PeftConfig.from_pretrained(...)) makes one")
    for adapter in names:
        if adapter not in stored["adapters"]:
            continue
        kept = stored["adapters"][adapter]
        tensors(f"{where}/{adapter}", tensors_of(model, adapter), kept["tensors"])
        mine = json.loads(config_of(model, adapter))
        differ = [k for k in mine if k in kept["config"] and k not in _FREE and mine[k] != kept["config"][k] and not _same_set(mine[k], kept["config"][k])]
        if differ:
            told = ", ".join(f"{k} is {mine[k]!r}, there {kept['config'][k]!r}" for k in differ[:4])
            warnings.warn(f"'{where}': the adapter '{adapter}' has another configuration than in the checkpoint: {told}", RuntimeWarning, stacklevel=outside())
    live = model.state_dict()
    # Not in place: PEFT's loading may write over some of them first (a prompt encoder's embedding).
    tensors(where, {n: live[n] for n in stored["extra"] if n in live}, stored["extra"], False)
    differs = _base_differs(model, stored["base"], list(stored["extra"]))
    return problems + ([f"'{where}': {differs}"] if differs else [])


def _same_set(a: Any, b: Any) -> bool:
    return isinstance(a, list) and isinstance(b, list) and sorted(map(str, a)) == sorted(map(str, b))


def put(model: Any, value: Dict[str, Any], spread: Callable[[Dict[str, Any], Dict[str, Any]], Dict[str, Any]]) -> None:
    """The stored tensors into the live model; ``spread(live, stored)`` gives those that fit as the live ones are spread."""
    from peft import set_peft_model_state_dict
    for adapter, kept in value["adapters"].items():
        if adapter in model.peft_config:
            live = tensors_of(model, adapter)
            set_peft_model_state_dict(model, {**live, **spread(live, kept["tensors"])}, adapter_name=adapter)
    if value["extra"]:
        model.load_state_dict(spread(model.state_dict(), value["extra"]), strict=False)
    # What has changed since the base was loaded is not the base's.
    for name in value["extra"]:
        base_of(model).pop(_plain_name(name), None)
