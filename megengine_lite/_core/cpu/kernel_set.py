"""Choice of the instruction set, and the kernels compiled for it."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import megengine_lite._core.system.processor as cpu
from megengine_lite._core.system.suggest import suggestion
from megengine_lite.errors import DeviceError

ISA_VARIABLE = "MEGENGINE_LITE_ISA"

_BASE = {"sse4.1"}
_AVX2 = {"avx2", "fma", "f16c", "bmi2"}
_AVX512 = {*_AVX2, "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni"}
# best first: name, float32 lanes, processor features it needs
_SETS = (("avx512", 16, _AVX512), ("avx2", 8, _AVX2), ("base", 4, _BASE))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled kernel: where it is and the names of its arguments, in order."""

    name: str
    address: int
    pointers: tuple[str, ...]
    integers: tuple[str, ...]
    reals: tuple[str, ...]


class KernelSet:
    """All kernels compiled for one instruction set.

    Attributes
    ----------
    name
        ``"base"``, ``"avx2"`` or ``"avx512"``.
    width
        float32 lanes of a vector = channel-block width of blocked layouts.
    """

    def __init__(self, name: str, width: int):
        self.name = name
        self.width = width
        self._kernels: dict[str, Kernel] = {}
        package = importlib.import_module(f"megengine_lite.kernels._{name}")
        for module in pkgutil.iter_modules(package.__path__):
            table = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "KERNELS", {})
            for kernel, (address, pointers, integers, reals) in table.items():
                self._kernels[kernel] = Kernel(
                    kernel, address, tuple(pointers.split()), tuple(integers.split()), tuple(reals.split())
                )

    def __getitem__(self, name: str) -> Kernel:
        return self._kernels[name]

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels.values())

    def __contains__(self, name: object) -> bool:
        return name in self._kernels

    def module(self, name: str):
        """One compiled kernel module of this set, for its ``def`` functions."""
        return importlib.import_module(f"megengine_lite.kernels._{self.name}.{name}")


def _built(name: str) -> bool:
    package = importlib.import_module(f"megengine_lite.kernels._{name}")
    return any(True for _ in pkgutil.iter_modules(package.__path__))


@cache
def _forced() -> str:
    """What the environment says; empty if it says nothing."""
    return os.environ.get(ISA_VARIABLE, "").strip().lower()


@cache
def _inspect() -> dict[str, object]:
    found = cpu.features()
    refused: dict[str, str] = {}
    chosen = ""
    forced = _forced()
    for name, _, needs in _SETS:
        # A baseline build for another architecture needs nothing of x86.
        if (missing := sorted(needs - found)) and (found or name != "base"):
            refused[name] = "this processor or system lacks " + ", ".join(missing)
            continue
        if not _built(name):
            refused[name] = "not in this build"
        elif forced and name != forced:
            refused[name] = f"{ISA_VARIABLE}={forced}"
        elif not chosen:
            chosen = name
        else:
            refused[name] = f"{chosen} is better"
    why = f"{ISA_VARIABLE}={forced}" if forced else "best of those that run here"
    return {"brand": cpu.brand(), "features": sorted(found), "chosen": chosen, "why": why, "refused": refused}


def _choice(name: str, known: Iterable[str]) -> str:
    return f"there are {', '.join(known)}. {suggestion(name, known)}".rstrip()


def cpu_info() -> dict[str, object]:
    """What was found on this processor, which kernels were chosen, which were refused, and why.

    Returns
    -------
    dict
        ``brand`` (str), ``features`` (list of str), ``chosen`` (``"avx512"``, ``"avx2"``, ``"base"``, or ``""`` when
        none can run), ``why`` (str), ``refused`` (dict: instruction set -> reason).

    Notes
    -----
    The environment variable ``MEGENGINE_LITE_ISA`` forces one instruction set; it is read once.

    Examples
    --------
    >>> import megengine_lite
    >>> megengine_lite.cpu_info()["chosen"] in ("avx512", "avx2", "base")
    True
    """
    info = _inspect()
    return {**info, "refused": dict(info["refused"])}  # type: ignore[call-overload]


@cache
def kernel_set(name: str | None = None) -> KernelSet:
    """The kernels of one instruction set; without a name, of the chosen one.

    Raises
    ------
    DeviceError
        It cannot run here; the message says why.
    """
    info = _inspect()
    refused: dict[str, str] = info["refused"]  # type: ignore[assignment]
    widths = {n: w for n, w, _ in _SETS}
    if name is None:
        name, forced = str(info["chosen"]), _forced()
        if forced and forced not in widths:
            raise DeviceError(f"{ISA_VARIABLE}={forced} names no instruction set; {_choice(forced, widths)}")
        if not name and forced:
            raise DeviceError(f"{ISA_VARIABLE}={forced}: {refused[forced]}; unset it to use what can run here")
        if not name:
            reasons = "; ".join(f"{k}: {v}" for k, v in refused.items())
            raise DeviceError(f"no kernels can run here ({reasons}); rebuild the package")
    if name not in widths:
        raise DeviceError(f"unknown instruction set {name!r}; {_choice(name, widths)}")
    if refused.get(name, "").startswith(("this processor", "not in")):
        raise DeviceError(f"kernels for {name} cannot run here: {refused[name]}")
    return KernelSet(name, widths[name])
