"""What callers give, looked at before it goes anywhere: an error names the argument, what it is and what was expected."""
from __future__ import annotations

import operator
import os
import re
import sys
from typing import Any, Dict, Mapping, Optional, Union


def outside() -> int:
    """The stacklevel of a warning that names the line of the program that called into the package."""
    here = os.path.dirname(os.path.abspath(__file__))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == here:
        frame, level = frame.f_back, level + 1
    return level


def whole(what: str, value: Any, least: int, most: int = 2**63 - 1) -> int:
    """An integer of Python, NumPy or torch."""
    try:
        n = operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        raise TypeError(f"{what} is {value!r} ({type(value).__name__}), expected an integer") from None
    if n < least:
        raise ValueError(f"{what} is {n}, expected at least {least}")
    if n > most:
        raise ValueError(f"{what} is {n if n.bit_length() < 1000 else f'a number of {n.bit_length()} bits'}, expected at most {most}")
    return n


def number(what: str, value: Any, least: Optional[float] = None, positive: bool = False, most: Optional[float] = None) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        n = float(value)
    except OverflowError:
        raise ValueError(f"{what} is an integer that is too large for a number of 64 bits") from None
    except (TypeError, RuntimeError, ValueError):
        raise TypeError(f"{what} is {value!r} ({type(value).__name__}), expected a number") from None
    if (least is not None and not n >= least) or (positive and not n > 0):
        raise ValueError(f"{what} is {n:g}, expected {'more than 0' if positive else f'at least {least:g}'}")
    if most is not None and n > most:
        raise ValueError(f"{what} is {n:g}, expected at most {most:g}")
    return n


def metrics_of(call: str, metrics: Any) -> Dict[str, float]:
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise TypeError(f"{call}: metrics is a {type(metrics).__name__}, expected a dict of numbers by their names")
    for name in metrics:
        if not isinstance(name, str) or not is_unicode(name):
            raise TypeError(f"{call}: the metric {name!r} is named by {'a text that is no Unicode' if isinstance(name, str) else 'a ' + type(name).__name__}, expected a text")
    return {str(name): number(f"{call}: the metric '{name}'", v) for name, v in metrics.items()}


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fixed(path: str) -> str:
    """The same place whatever becomes the working directory."""
    if os.path.isabs(path) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return path
    return os.path.join(os.getcwd(), path) if ".." in path.split("/") else os.path.abspath(path)  # .. after a link is another place than its text says


def expand(path: Union[str, bytes, os.PathLike]) -> str:
    """``${NAME}`` and ``${NAME:-default}``, and ``~`` at the beginning; an unset variable is an error that names it, and so is ``$NAME``, unless something of that name is there."""
    text = os.fsdecode(path)
    if not text or "\0" in text or not is_unicode(text):
        raise ValueError(f"the path {path!r} {'is empty' if not text else 'has a zero byte' if chr(0) in text else 'is no UTF-8'}; give another")

    def value(m: "re.Match[str]") -> str:
        v = os.environ.get(m[1])
        if v:
            return v
        if m[2] is not None:
            return m[2][2:]
        raise ValueError(f"the path {text} needs the variable {m[1]}, which is not set; give ${{{m[1]}:-default}} or set it")
    known = r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}"
    bare = re.search(r"\$([A-Za-z_][A-Za-z0-9_]*)", re.sub(known, "", text))
    other = re.search(r"\$\{[^}]*\}?", re.sub(known, "", text))
    if (bare or other) and not os.path.exists(text):
        raise ValueError(f"the path {text} has {(bare or other)[0]}, which would be part of a name; " + (f"write ${{{bare[1]}}} for the variable" if bare else "a variable is ${NAME} or ${NAME:-default}"))
    return re.sub(known, value, os.path.expanduser(text))
