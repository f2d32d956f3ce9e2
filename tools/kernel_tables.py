"""Makes the tables ``KERNELS`` of the kernel modules from the structs that declare their arguments; setup.py calls it.

A kernel is a function of this form, and its struct is the only declaration of its arguments::

    cdef struct CopyArgs:
        const char* x
        char* y
        int64_t nbytes, chunk

    cdef void copy_bytes(const CopyArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:

Fields are pointers, ``int64_t``, ``double``, arrays of these, or groups: structs of the same form, from the same file
or from ``kernels/common/arguments.pxd``. Every field has 8 bytes, so the place of an argument is its place in the list
of names. (On systems of 32 bits pointers have 4 bytes: ``kernels/common/kernel.h`` makes the struct there.) The names
are

=================================  ==============================================================
``int64_t h, w``                   ``h``, ``w``
``int64_t extent[2]``              ``extent0``, ``extent1``; the size is a number or a constant of the file
                                   or of ``shared_constants.py``
``FilterWindow window``            those of the group: ``kh``, ``kw`` ...
``Strides x_``                     those of the group behind the field's name: ``x_row``, ``x_plane``, ``x_image``
=================================  ==============================================================

The table of a module is a file of Cython code, ``<module>_table.pxi``, which the module includes behind its kernels.
Enumerations and sizes that kernels share with the planner are made from the Python modules that have them, in the same
way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUPS = Path("megengine_lite/kernels/common/arguments.pxd")
KINDS = {"int64_t": "i", "double": "f"}  # and "p" for pointers

_STRUCT = re.compile(r"^cdef struct (\w+):.*\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
_FIELD = re.compile(r"(?:const )?(\w+)(\*?) (\w+(?:\[\w+\])?(?:, \w+(?:\[\w+\])?)*)")
_CONSTANT = re.compile(r"^ {4}(\w+) = (\d+)\b", re.MULTILINE)
_KERNEL = re.compile(
    r"^cdef void (\w+)\(\s*const (\w+)\* a, int64_t begin, int64_t end, void\* scratch\s*\) noexcept nogil:",
    re.MULTILINE,
)


_MEMBER = re.compile(r"^ {4}([A-Z]\w*) = (\d+)(?:  #.*)?$", re.MULTILINE)
_SIZE = re.compile(r"^([A-Z]\w*) = (\d+)(?:  #.*)?$", re.MULTILINE)


class Enumeration(NamedTuple):
    """A Python enumeration with the numbers 0, 1, 2, ..., and what it is called in Cython."""

    module: Path
    name: str
    cython_name: str
    prefix: str  # of the Cython names of its members
    count: str  # Cython name of the number of members


SHARED = Path("megengine_lite/kernels/common/shared_constants.py")
PARAMS = Path("megengine_lite/_core/ir/params")
ENUMERATIONS = {
    "elemwise_mode_numbers.pxi": Enumeration(PARAMS / "elemwise.py", "ElemwiseMode", "Mode", "", "MODE_COUNT"),
    "pooling_mode_numbers.pxi": Enumeration(PARAMS / "conv.py", "PoolingMode", "PoolMode", "POOL_", "POOL_MODE_COUNT"),
    "reduce_mode_numbers.pxi": Enumeration(PARAMS / "tensor.py", "ReduceMode", "Mode", "", "MODE_COUNT"),
    "roi_mode_numbers.pxi": Enumeration(PARAMS / "vision.py", "ROIAlignMode", "Mode", "ROI_", "ROI_MODE_COUNT"),
    "activation_numbers.pxi": Enumeration(
        Path("megengine_lite/_core/ir/fused.py"), "ActivationCode", "Activation", "ACT_", "ACT_COUNT"
    ),
    "weights_numbers.pxi": Enumeration(SHARED, "Weights", "Weights", "WEIGHTS_", "WEIGHTS_COUNT"),
    "output_kind_numbers.pxi": Enumeration(SHARED, "OutputKind", "OutputKind", "OUT_", "OUT_COUNT"),
    "storage_kind_numbers.pxi": Enumeration(SHARED, "StorageKind", "StorageKind", "KIND_", "KIND_COUNT"),
    "positions_numbers.pxi": Enumeration(SHARED, "Positions", "Positions", "AT_", "POSITIONS_COUNT"),
    "border_mode_numbers.pxi": Enumeration(
        PARAMS / "vision.py", "BorderMode", "BorderMode", "BORDER_", "BORDER_MODE_COUNT"
    ),
}


class Argument(NamedTuple):
    """One argument: its name and ``p`` (pointer), ``i`` (integer) or ``f`` (real)."""

    name: str
    kind: str


class Declarations:
    """The structs and constants of some Cython sources."""

    def __init__(self, *sources: str):
        self.structs: dict[str, str] = {}
        self.constants: dict[str, int] = {}
        for text in sources:
            self.structs.update(_STRUCT.findall(text))
            self.constants.update((name, int(value)) for name, value in _CONSTANT.findall(text))

    def arguments(self, struct: str) -> list[Argument]:
        """The arguments that a struct declares, in the order of memory."""
        found = list(self._walk(struct, ""))
        names = [a.name for a in found]
        if self._short_places(struct, 0)[0] != _flat_short_places(found):
            raise ValueError(f"struct {struct}: pointers of a group, and those before it, must come in pairs")
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"struct {struct} has several arguments {', '.join(twice)}")
        return found

    def _walk(self, struct: str, prefix: str) -> Iterator[Argument]:
        if struct not in self.structs:
            raise ValueError(f"{struct} is no struct of this file or of {GROUPS}, and no type of an argument")
        for line in self.structs[struct].splitlines():
            line = line.partition("#")[0].strip()
            if not line:
                continue
            field = _FIELD.fullmatch(line)
            if field is None:
                raise ValueError(f"struct {struct}: cannot read {line!r} as arguments")
            base, pointer, declared = field.groups()
            for one in declared.split(", "):
                name, _, size = one.rstrip("]").partition("[")
                if pointer or base in KINDS:
                    kind = "p" if pointer else KINDS[base]
                    for k in [""] if not size else range(self._number(size)):
                        yield Argument(f"{prefix}{name}{k}", kind)
                elif size:
                    raise ValueError(f"struct {struct}: {one} is an array of groups")
                else:
                    yield from self._walk(base, prefix + name if name.endswith("_") else prefix)

    def _short_places(self, struct: str, at: int) -> tuple[list[int], int]:
        """Where the arguments of a struct lie, and where it ends, if pointers have 4 bytes; groups begin at eights."""
        places = []
        for line in self.structs[struct].splitlines():
            field = _FIELD.fullmatch(line.partition("#")[0].strip())
            if field is None:
                continue
            base, pointer, declared = field.groups()
            for one in declared.split(", "):
                _, _, size = one.rstrip("]").partition("[")
                if not pointer:
                    at = -(-at // 8) * 8
                if pointer or base in KINDS:
                    for _ in range(self._number(size) if size else 1):
                        places.append(at)
                        at += 4 if pointer else 8
                else:
                    inner, at = self._short_places(base, at)
                    places += inner
        return places, -(-at // 8) * 8

    def _number(self, size: str) -> int:
        return int(size) if size.isdigit() else self.constants[size]


def _flat_short_places(arguments: list[Argument]) -> list[int]:
    """Where arguments lie if pointers have 4 bytes and there are no groups, as ``kernel.h`` takes it."""
    places, at = [], 0
    for argument in arguments:
        is_pointer = argument.kind == "p"
        places.append(at if is_pointer else -(-at // 8) * 8)
        at = places[-1] + (4 if is_pointer else 8)
    return places


def table(source: str, groups: str) -> str:
    """The Cython code of a module's table, from the text of the module and of the groups; empty without kernels."""
    declarations = Declarations(groups, source)
    edges, rows = [], []
    for kernel, struct in _KERNEL.findall(source):
        arguments = declarations.arguments(struct)
        names = " ".join(a.name for a in arguments)
        kinds = "".join(a.kind for a in arguments)
        edges.append(
            f"cdef void call_{kernel}(const void* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:\n"
            f"    cdef {struct} copy\n"
            f'    {kernel}(<const {struct}*>ml_arguments(a, b"{kinds}", &copy), begin, end, scratch)\n\n\n'
        )
        rows.append(f'    "{kernel}": (<uintptr_t>&call_{kernel}, sizeof({struct}), "{names}", "{kinds}"),\n')
    if not rows:
        return ""
    return (
        "# Made by tools/kernel_tables.py.\n"
        "from libc.stdint cimport int64_t, uintptr_t\n\n\n"
        'cdef extern from "kernel.h" nogil:\n'
        "    const void* ml_arguments(const void* slots, const char* kinds, void* copy)\n\n\n"
        f"{''.join(edges)}"
        "# name -> (address, bytes of the arguments, their names, their kinds)\n"
        f"KERNELS = {{\n{''.join(rows)}}}\n"
    )


def numbers(wanted: Enumeration, source: str) -> str:
    """The Cython form of an enumeration, from the text of its Python module."""
    body = re.search(rf"^class {wanted.name}\(CodeEnum\):\n((?:(?: {{4}}.*)?\n)*)", source, re.MULTILINE)
    members = [(wanted.prefix + name, int(n)) for name, n in _MEMBER.findall(body.group(1))] if body else []
    if not members or sorted(n for _, n in members) != list(range(len(members))):
        raise ValueError(f"{wanted.module}: cannot read {wanted.name} as numbers from 0 on without gaps")
    lines = "".join(f"    {name} = {n}\n" for name, n in [*members, (wanted.count, len(members))])
    return f"# Made by tools/kernel_tables.py.\ncdef enum {wanted.cython_name}:\n{lines}"


def sizes(source: str) -> str:
    """The Cython form of the sizes that a Python module has, from its text."""
    lines = "".join(f"    {name} = {n}\n" for name, n in _SIZE.findall(source))
    if not lines:
        raise ValueError(f"{SHARED}: cannot read any size")
    return f"# Made by tools/kernel_tables.py.\ncdef enum:\n{lines}"


def write_tables(modules: list[Path], folder: Path) -> None:
    """Writes ``<module>_table.pxi`` for each module with kernels, the enumerations and the shared sizes.

    Files that are right already keep their times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in ENUMERATIONS.items():
        _write(folder / name, numbers(wanted, wanted.module.read_text()))
    _write(folder / "shared_sizes.pxi", sizes(SHARED.read_text()))
    groups = GROUPS.read_text() + sizes(SHARED.read_text())  # arrays of arguments may have a shared size
    for module in modules:
        source = module.read_text()
        try:
            code = table(source, groups)
        except ValueError as e:
            raise ValueError(f"{module}: {e}") from e
        name = f"{module.stem}_table.pxi"
        if bool(code) != (f'\ninclude "{name}"' in source):
            raise ValueError(
                f'{module}: a module with kernels must have the line include "{name}", another one must not'
            )
        if code:
            _write(folder / name, code)


def _write(target: Path, code: str) -> None:
    if not (target.exists() and target.read_text() == code):
        target.write_text(code)
