"""Lite packages (``.lite``): a model with a header, settings as JSON, and a cache of algorithm choices."""

from __future__ import annotations

from typing import Any

from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.containers.information import Information, parse_information
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.formats.wire.flatbuffer import root_table
from megengine_lite._records import record, replace
from megengine_lite.errors import ModelFormatError

MAGIC = b"packed_model"
INFORMATION_PARSER = "LITE_default"
CACHE_PARSER = "LITE_parse_cache"


@record(slots=True)
class Package:
    """The parts of a package as stored in the file, perhaps encrypted.

    Attributes
    ----------
    name
        Name of the model; the information must have the same.
    information_cryption, model_cryption
        Names of the methods that decrypt the information and the model, or ``"NONE"``.
    information_parser, cache_parser
        Names of the parsers of the information and of the cache.
    is_fast_run_cache
        Whether ``algorithm_cache`` is one.
    information, model, algorithm_cache, binary_cache
        Contents; None if the package has none.
    """

    name: str
    model: memoryview | bytes | bytearray
    model_cryption: str = cryption.NONE
    information: memoryview | bytes | bytearray | None = None
    information_cryption: str = cryption.NONE
    information_parser: str = INFORMATION_PARSER
    algorithm_cache: memoryview | bytes | None = None
    is_fast_run_cache: bool = False
    cache_parser: str = CACHE_PARSER
    binary_cache: memoryview | bytes | None = None

    def without_model(self) -> Package:
        """The part of the package that a loaded model keeps. It does not refer to the file's bytes."""

        def copied(content: memoryview | bytes | bytearray | None) -> bytes | None:
            return None if content is None else bytes(content)

        return replace(
            self,
            model=b"",
            information=copied(self.information),
            algorithm_cache=copied(self.algorithm_cache),
            binary_cache=copied(self.binary_cache),
        )

    def read_information(self, what: str = "model") -> Information | None:
        """Decrypts and reads the information; None if there is none, or if it says that it is not valid."""
        if self.information is None or not len(self.information):
            return None
        if self.information_parser != INFORMATION_PARSER:
            raise ModelFormatError(
                f"{what}: no parser {self.information_parser!r} for the information of a package; "
                f"there is {INFORMATION_PARSER!r}"
            )
        plain = cryption.decrypt(self.information_cryption, self.information)
        return parse_information(bytes(plain), self.name, what)

    def read_cache(self, what: str = "model") -> bytes:
        """The fast-run cache, empty if there is none."""
        if self.algorithm_cache is None or not self.is_fast_run_cache:
            return b""
        if self.cache_parser != CACHE_PARSER:
            raise ModelFormatError(f"{what}: no parser {self.cache_parser!r} for caches; there is {CACHE_PARSER!r}")
        return bytes(self.algorithm_cache)


def is_package(cursor: Cursor) -> bool:
    """Whether the window begins with the tag of a package."""
    return cursor.startswith(MAGIC)


def read_package(buffer: Any, what: str = "model") -> Package:
    """Reads a package; its contents are views on the buffer."""
    cursor = Cursor(buffer, len(MAGIC), what=what)
    models = list(root_table(cursor).tables(0, "packed model"))
    if len(models) != 1:
        raise ModelFormatError(f"{what}: the package holds {len(models)} models, exactly one is expected")
    header = models[0].table(0, "header")
    data = models[0].table(2, "model data")
    content = None if data is None else data.span(0, "model data")
    if header is None or content is None:
        raise ModelFormatError(f"{what}: the package has no {'header' if header is None else 'model'}")
    package = Package(
        name=header.text(0, "model name"),
        model=content,
        model_cryption=header.text(3, "decryption method of the model") or cryption.NONE,
        information_cryption=header.text(1, "decryption method of the information") or cryption.NONE,
        information_parser=header.text(2, "parser of the information") or INFORMATION_PARSER,
        is_fast_run_cache=header.boolean(5),
        cache_parser=header.text(4, "parser of the cache") or CACHE_PARSER,
    )
    information = models[0].table(1, "information")
    if information is not None:
        package.information = information.span(0, "information")
        package.algorithm_cache = information.span(1, "cache")
        package.binary_cache = information.span(2, "binary cache")
    return package


def write_package(package: Package) -> list[Any]:
    """A package as chunks of bytes, to be written one after the other."""
    from megengine_lite._core.formats.wire.flatbuffer_builder import NewTable, boolean, serialize  # not to read one

    information = None
    if package.information is not None or package.algorithm_cache is not None or package.binary_cache is not None:
        information = NewTable({0: package.information, 1: package.algorithm_cache, 2: package.binary_cache})
    header = NewTable(
        {
            0: package.name,
            1: package.information_cryption,
            2: package.information_parser,
            3: package.model_cryption,
            4: package.cache_parser,
            5: boolean(package.is_fast_run_cache),
        }
    )
    model = NewTable({0: header, 1: information, 2: NewTable({0: package.model})})
    return [MAGIC, *serialize(NewTable({0: [model]}))]
