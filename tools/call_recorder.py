"""A plugin of pytest that dumps the calls of MegEngine's functions as models; see ``tools/harvest.py``."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import megengine.functional as F
import numpy as np
from megengine import Tensor, random
from megengine.core._imperative_rt import OpDef
from megengine.core._imperative_rt.core2 import apply
from megengine.jit import trace
from megengine.jit.tracing import is_tracing
from megengine.module import Module

_MAX_ELEMENTS = 1 << 21
_PER_TEST = 40
"""Models of one function that one test may give: some tests loop over all elements of a tensor."""
_MODULES = "elemwise math nn tensor loss vision metric quantized utils inplace external tensor_cache"
_METHODS = """__getitem__ __add__ __sub__ __mul__ __truediv__ __floordiv__ __mod__ __pow__ __matmul__ __radd__
    __rsub__ __rmul__ __rtruediv__ __rfloordiv__ __rmod__ __rpow__ __lshift__ __rshift__ __and__ __or__ __xor__
    __neg__ __abs__ __invert__ __round__ __lt__ __le__ __gt__ __ge__ __eq__ __ne__ astype reshape transpose flatten
    sum prod min max mean"""
_STATE = {"_name", "_short_name", "training"}
"""Attributes of a module that say nothing about what it computes."""


def function_of(path: Path) -> str:
    """The function that a model was made of."""
    return path.name.rpartition("-")[0]


class Recorder:
    """Dumps each call of a public function, of an operator, of a module, and of a tensor's methods.

    Parameters
    ----------
    folder
        Where the models go. ``done.txt`` there names the tests that are not to run again.
    per_function
        Models of one function at most.
    """

    def __init__(self, folder: Path, per_function: int) -> None:
        self._folder = folder
        self._per_function = per_function
        self._busy = False
        self._test = ""
        self._keys: set[str] = set()
        self._of_test: Counter[str] = Counter()
        self._count = Counter(function_of(path) for path in folder.glob("*.json"))
        self._done_path = folder / "done.txt"
        self._done = set(self._done_path.read_text().split("\n")) if self._done_path.exists() else set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_runtest_setup(self, item: Any) -> None:
        self._test = item.nodeid
        self._of_test.clear()
        # Written before the test: one that kills the process is not tried again.
        with self._done_path.open("a") as file:
            print(item.nodeid, file=file)

    def install(self) -> None:
        """Replaces the public functions and methods of MegEngine by ones that record, wherever they were imported."""
        public = [F, random, *(importlib.import_module(f"megengine.functional.{name}") for name in _MODULES.split())]
        wrapped: dict[int, Any] = {}
        for namespace in public:
            for name in getattr(namespace, "__all__", None) or dir(namespace):
                function = getattr(namespace, name)
                if isinstance(function, type) or not callable(function) or name.startswith("_"):
                    continue
                if (getattr(function, "__module__", None) or "megengine").startswith("megengine"):
                    wrapped.setdefault(id(function), self._recording(function, name))
        wrapped[id(apply)] = self._recording(apply, lambda op: f"op.{type(op).__name__}")
        for name, module in list(sys.modules.items()):
            if name.startswith("megengine"):
                for attribute, value in list(vars(module).items()):
                    if id(value) in wrapped:
                        setattr(module, attribute, wrapped[id(value)])
        for name in _METHODS.split():
            if hasattr(Tensor, name):
                setattr(Tensor, name, self._recording(getattr(Tensor, name), f"Tensor.{name}"))
        Tensor.__setitem__ = self._recording_setitem(Tensor.__setitem__)
        Module.__call__ = self._recording(Module.__call__, lambda module: f"module.{type(module).__name__}")

    def _is_on(self) -> bool:
        return not (
            self._busy or not self._test or is_tracing() or threading.current_thread() is not threading.main_thread()
        )

    def _recording(self, function: Callable[..., Any], name: str | Callable[[Any], str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def record(*args: Any, **kwargs: Any) -> Any:
            if not self._is_on():
                return function(*args, **kwargs)
            before = self._flatten((args, kwargs))
            result = function(*args, **kwargs)
            if result is not NotImplemented and before:
                called = name if isinstance(name, str) else name(args[0])
                self._dump(lambda arguments: function(*arguments[0], **arguments[1]), called, *before)
            return result

        return record

    def _recording_setitem(self, function: Callable[..., None]) -> Callable[..., None]:
        def assigned(arguments: Any) -> Any:
            x, index, value = arguments
            x = F.copy(x)
            function(x, index, value)
            return x

        def record(x: Any, index: Any, value: Any) -> None:
            before = self._flatten((x, index, value)) if self._is_on() else None
            function(x, index, value)
            if before:
                self._dump(assigned, "Tensor.__setitem__", *before)

        return record

    def _flatten(self, arguments: Any) -> tuple[list[Any], Any] | None:
        """As :func:`_flatten`; None if a tensor has no numbers."""
        self._busy = True
        try:
            return _flatten(arguments)
        except Exception:
            return None
        finally:
            self._busy = False

    def _dump(self, function: Callable[[Any], Any], name: str, arrays: list[Any], structure: Any) -> None:
        arguments = re.sub(r" at 0x[0-9a-f]+", "", repr(structure))
        stem = f"{name}-{hashlib.sha256(f'{name} {arguments}'.encode()).hexdigest()[:10]}"
        path = self._folder / f"{stem}.mge"
        if stem in self._keys or path.exists() or self._count[name] >= self._per_function:
            return
        self._of_test[name] += 1
        if self._of_test[name] > _PER_TEST:
            return
        self._keys.add(stem)
        note = {"function": name, "test": self._test, "arguments": arguments[:2000]}
        self._busy = True
        try:
            if any(array.size > _MAX_ELEMENTS for array in arrays):
                raise ValueError("too large")
            _trace(function, arrays, structure, path)
        except Exception as error:
            for suffix in (".mge", ".v1.mge", ".npz"):
                path.with_suffix(suffix).unlink(missing_ok=True)
            with (self._folder / "left_out.jsonl").open("a") as file:
                print(json.dumps({**note, "error": f"{type(error).__name__}: {error}"[:500]}), file=file)
        else:
            self._count[name] += 1
            path.with_suffix(".json").write_text(json.dumps(note))
        finally:
            self._busy = False


def _trace(function: Callable[[Any], Any], arrays: list[Any], structure: Any, path: Path) -> None:
    """Writes a model of both generations of the format, its inputs and outputs."""

    def run(*tensors: Any) -> Any:
        found = _tensors(function(_restore(structure, tensors)))
        # A result that is no new tensor is not an output of the trace.
        return tuple(+x if any(x is t for t in tensors) else x for x in found)

    names = [f"x{i}" for i in range(len(arrays))]
    with _inference(structure):
        traced = trace(run, symbolic=True, capture_as_const=True)
        eager = traced(*[Tensor(array, dtype=array.dtype) for array in arrays])
        if not eager:
            raise ValueError("the result has no tensors")
        for suffix, form in ((".mge", "FBS_V2"), (".v1.mge", "FBS")):
            outputs = [f"y{i}" for i in range(len(eager))]
            traced.dump(str(path.with_suffix(suffix)), arg_names=names, output_names=outputs, dump_format=form)
    data = {f"in_{name}": _plain(array) for name, array in zip(names, arrays, strict=True)}
    data.update((f"eager_{i}", _plain(x.numpy())) for i, x in enumerate(eager))
    np.savez_compressed(path.with_suffix(".npz"), **data)


def _plain(array: Any) -> Any:
    """Without MegEngine's additions to the element type."""
    return np.asarray(array).astype(np.dtype(array.dtype.str))


class _Slot:
    """Stands for a tensor among arguments."""

    def __init__(self, index: int, array: Any) -> None:
        self.index = index
        self._text = f"<{array.dtype.name}{list(array.shape)}{array.dtype.metadata or ''}>"

    def __repr__(self) -> str:
        return self._text


class _Known:
    """Stands for a module or an operator among arguments; its text tells those with other parameters apart."""

    def __init__(self, value: Any) -> None:
        self.value = value
        if isinstance(value, Module):
            shapes = [f"{name}{tuple(p.shape)}" for name, p in value.named_tensors()]
            settings = {k: v for k, v in vars(value).items() if isinstance(v, int | float | str) and k not in _STATE}
            self._text = f"{type(value).__module__} {value!r} {shapes} {settings}"
        else:
            self._text = f"{type(value).__name__} {value.__getstate__()}"

    def __repr__(self) -> str:
        return self._text


@contextlib.contextmanager
def _inference(structure: Any) -> Iterator[None]:
    """Modules among arguments do not train meanwhile: their statistics could not be dumped."""
    known = [x.value for x in structure[0] if isinstance(x, _Known)] if isinstance(structure[0], tuple) else []
    training = [(part, part.training) for x in known if isinstance(x, Module) for part in x.modules()]
    for part, _ in training:
        part.training = False
    try:
        yield
    finally:
        for part, before in training:
            part.training = before


def _flatten(value: Any) -> tuple[list[Any], Any]:
    """The numbers of the tensors in arguments, and the arguments with a place in their stead."""
    arrays: list[Any] = []

    def visit(x: Any) -> Any:
        if isinstance(x, Tensor):
            arrays.append(x.numpy())
            return _Slot(len(arrays) - 1, arrays[-1])
        return _Known(x) if isinstance(x, Module | OpDef) else _rebuilt(x, visit)

    return arrays, visit(value)


def _restore(value: Any, tensors: Any) -> Any:
    """Arguments with tensors in their places."""

    def visit(x: Any) -> Any:
        if isinstance(x, _Slot):
            return tensors[x.index]
        return x.value if isinstance(x, _Known) else _rebuilt(x, visit)

    return visit(value)


def _rebuilt(x: Any, visit: Callable[[Any], Any]) -> Any:
    """A container with each of its elements replaced; everything else as it is."""
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return type(x)(map(visit, x))
    if isinstance(x, dict):
        return {k: visit(v) for k, v in x.items()}
    if isinstance(x, slice):
        return slice(visit(x.start), visit(x.stop), visit(x.step))
    return x


def _tensors(value: Any) -> list[Any]:
    """All tensors in a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for y in value for x in _tensors(y)] if isinstance(value, list | tuple) else []
