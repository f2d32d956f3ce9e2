"""Choice of the instruction set, and the kernels compiled for it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from struct import calcsize
from types import ModuleType
from typing import Any

import megengine_lite._core.system.processor as cpu
from megengine_lite import kernels
from megengine_lite._core.cpu.isa import InstructionSet, full_name, instruction_sets
from megengine_lite._core.system.suggest import choices
from megengine_lite._records import asdict, record
from megengine_lite.errors import DeviceError, InternalError

ISA_VARIABLE = "MEGENGINE_LITE_ISA"
_FORMATS = {"p": "P", "i": "q", "f": "d"}  # of the arguments in a kernel's struct, as the module struct calls them


@record(frozen=True, slots=True)
class Kernel:
    """A compiled kernel: its address and its arguments.

    Attributes
    ----------
    name, address
        Its name in the table of its module, and where its code is.
    arguments
        The kind of each argument by name, in the order of the kernel's struct: ``p`` (pointer), ``i`` (integer) or
        ``f`` (real).
    module
        The compiled module that has it.
    """

    name: str
    address: int
    arguments: dict[str, str]
    module: str

    def values(self, arguments: Mapping[str, Any]) -> list[Any]:
        """The values of all arguments in the order of the struct: pointers as they come, int, float.

        Raises
        ------
        TypeError
            An argument is missing, or the kernel has none of that name.
        """
        if self.arguments.keys() != arguments.keys():
            raise TypeError(
                f"kernel {self.name}: missing arguments {sorted(self.arguments.keys() - arguments.keys())}, "
                f"unknown {sorted(arguments.keys() - self.arguments.keys())}"
            )
        return [_CONVERSIONS[kind](arguments[name]) for name, kind in self.arguments.items()]


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"p": lambda pointer: pointer, "i": int, "f": float}


class KernelSet:
    """All kernels of one instruction set. A module is imported when one of its kernels is asked for.

    Attributes
    ----------
    isa : InstructionSet
        Its row of the table.
    name : str
        Its name.
    width : int
        float32 lanes of a vector = channel-block width of blocked layouts.

    Raises
    ------
    InternalError
        A module's table does not fit the structs that its kernels were compiled with; from every method.
    """

    def __init__(self, isa: InstructionSet):
        self.isa = isa
        self.name = isa.name
        self.width = isa.width
        self._kernels: dict[str, Kernel] = {}
        self._modules: dict[str, ModuleType] = {}

    @property
    def has_bfloat16(self) -> bool:
        """Whether its kernels multiply bfloat16 on this processor."""
        return bool(self.isa.bfloat16) and cpu.features().issuperset(self.isa.bfloat16)

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether they should: AMD's processors take half the time of float32 for it, those of Intel twice the time."""
        return self.has_bfloat16 and cpu.brand().startswith("AMD ")

    def __getitem__(self, name: str) -> Kernel:
        from megengine_lite._core.cpu.kernel_index import MODULES  # prepared plans know the modules of their kernels

        if name not in self._kernels and is_present(self.isa, module := MODULES.get(name, "")):
            self._add([module])
        if name not in self._kernels:  # the index does not have it yet
            self._add(modules_of(self.isa))
        return self._kernels[name]

    def _add(self, modules: Iterable[str]) -> None:
        for module in modules:
            if module not in self._modules:
                self._kernels.update(kernels_of(self.isa, module))
                self._modules[module] = _module(self.isa, module)  # last, for other threads

    def __iter__(self) -> Iterator[Kernel]:
        self._add(modules_of(self.isa))
        return iter(sorted(self._kernels.values(), key=lambda kernel: kernel.module))

    def __contains__(self, name: object) -> bool:
        return any(kernel.name == name for kernel in self)

    def module(self, name: str) -> ModuleType:
        """One compiled kernel module of this set, for its ``def`` functions."""
        self._add([name])
        return self._modules[name]


def _module(isa: InstructionSet, name: str) -> ModuleType:
    return importlib.import_module(f"megengine_lite.kernels._{isa.home_of(name)}.{name}")


def _bytes_of_struct(kinds: str) -> int:
    """Bytes of the struct that a kernel's arguments are; numbers have 8 of them, pointers may have fewer."""
    return calcsize("".join(map(_FORMATS.__getitem__, kinds)) + "0q")


def kernels_of(isa: InstructionSet, module: str) -> dict[str, Kernel]:
    """The kernels in one compiled module, by name.

    Raises
    ------
    InternalError
        The module's table does not fit the structs that its kernels were compiled with.
    """
    found = {}
    for kernel, (address, nbytes, names, kinds) in getattr(_module(isa, module), "KERNELS", {}).items():
        arguments = dict(zip(names.split(), kinds, strict=True))
        needed = _bytes_of_struct(kinds)
        if nbytes != needed:
            raise InternalError(
                f"kernel {kernel} of {_module(isa, module).__name__}: its struct has {nbytes} bytes, its "
                f"table names {len(arguments)} arguments, which take {needed} bytes; build the package again"
            )
        found[kernel] = Kernel(kernel, address, arguments, module)
    return found


def shared_object(name: str) -> ModuleType:
    """The module of the file with what is compiled for an instruction set."""
    return importlib.import_module(f"megengine_lite.kernels._{name}")


def is_present(isa: InstructionSet, module: str) -> bool:
    """Whether an instruction set has a kernel module, of its own or from another set."""
    return module in shared_object(isa.home_of(module)).MODULES


def modules_of(isa: InstructionSet) -> list[str]:
    """All kernel modules of an instruction set."""
    return [m for home in isa.homes for m in shared_object(home).MODULES if isa.home_of(m) == home]


def _built(name: str) -> bool:
    spec = PathFinder.find_spec(f"megengine_lite.kernels._{name}", kernels.__path__)
    return spec is not None and spec.origin is not None  # a folder that was left has no file


@cache
def _forced() -> str:
    """The instruction set that the environment variable names, or an empty string."""
    return full_name(os.environ.get(ISA_VARIABLE, "").strip().lower())


@cache
def _obstacles() -> dict[str, str]:
    """For each instruction set of this architecture why it cannot run here; empty if it can. The best come first."""
    found = cpu.features()
    reasons = {}
    for name, isa in instruction_sets().items():
        if missing := sorted({*isa.features} - found):
            reasons[name] = "this processor or system lacks " + ", ".join(missing)
        else:
            reasons[name] = "" if all(map(_built, isa.homes)) else "not in this build"
    return reasons


def runnable_sets() -> tuple[str, ...]:
    """Names of the instruction sets that are built and run here, the best first."""
    return tuple(name for name, obstacle in _obstacles().items() if not obstacle)


@cache
def _choice() -> tuple[str, dict[str, str]]:
    """The chosen instruction set, or an empty string, and for each other one why it was not chosen."""
    refused: dict[str, str] = {}
    chosen = ""
    forced = _forced()
    for name, obstacle in _obstacles().items():
        if obstacle:
            refused[name] = obstacle
        elif forced and name != forced:
            refused[name] = f"{ISA_VARIABLE}={forced}"
        elif not chosen:
            chosen = name
        else:
            refused[name] = f"{chosen} is better"
    return chosen, refused


def cpu_info() -> dict[str, object]:
    """The features of this processor, and which kernels were chosen or refused, and why.

    Returns
    -------
    dict
        ``brand`` (str), ``features`` (list of str), ``cores`` (list of dict: the kinds of cores, the fastest first;
        each has ``name``, ``count``, ``capacity``, ``max_mhz`` and ``cpus``), ``chosen`` (str: name of an instruction
        set, or ``""`` when none can run), ``why`` (str), ``refused`` (dict: instruction set -> reason).

    Notes
    -----
    The environment variable ``MEGENGINE_LITE_ISA`` forces one instruction set; it is read once. ``base`` is another
    name of the one that every processor of an architecture runs.

    Examples
    --------
    >>> import megengine_lite
    >>> info = megengine_lite.cpu_info()
    >>> info["chosen"] in info["refused"]
    False
    """
    chosen, refused = _choice()
    return {
        "brand": cpu.brand(),
        "features": sorted(cpu.features()),
        "cores": [asdict(kind) for kind in cpu.cores()],
        "chosen": chosen,
        "why": f"{ISA_VARIABLE}={_forced()}" if _forced() else "best of those that run here",
        "refused": dict(refused),
    }


def kernel_set(name: str | None = None) -> KernelSet:
    """The kernels of one instruction set; without a name, of the chosen one.

    ``"base"`` is another name of the set that every processor of an architecture runs.

    Raises
    ------
    DeviceError
        It cannot run here; the message says why.
    """
    return _kernel_set(instruction_set(name).name)


@cache
def _kernel_set(name: str) -> KernelSet:
    return KernelSet(instruction_sets()[name])


def instruction_set(name: str | None = None) -> InstructionSet:
    """The instruction set of :func:`kernel_set`, which raises the same errors. No kernel is loaded."""
    return _instruction_set(None if name is None else full_name(name))


@cache
def _instruction_set(name: str | None) -> InstructionSet:
    chosen, refused = _choice()
    known = instruction_sets()
    if name is None:
        name, forced = chosen, _forced()
        if forced and forced not in known:
            raise DeviceError(f"{ISA_VARIABLE}={forced} names no instruction set {choices(forced, known)}")
        if not name and forced and (usable := ", ".join(runnable_sets())):
            raise DeviceError(
                f"{ISA_VARIABLE}={forced}: {refused[forced]}; unset it to use what can run here: {usable}"
            )
        if not name:
            reasons = "; ".join(f"{k}: {v}" for k, v in refused.items())
            raise DeviceError(f"no kernels can run here ({reasons}); rebuild the package")
    if name not in known:
        raise DeviceError(f"unknown instruction set {name!r} {choices(name, known)}")
    if obstacle := _obstacles()[name]:
        usable = ", ".join(runnable_sets()) or "none"
        raise DeviceError(f"kernels for {name} cannot run here: {obstacle}; those that can: {usable}")
    return known[name]
