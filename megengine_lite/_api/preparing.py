"""Prepared files: what they are made for, opening and writing them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from megengine_lite._api.loading import read_model
from megengine_lite._core.formats.prepared.identity import ModelIdentity, identity_of
from megengine_lite._core.formats.prepared.reader import PreparedFile
from megengine_lite._core.formats.prepared.record import FORMAT_VERSION
from megengine_lite._core.runtime.prepared import PreparedModel
from megengine_lite._core.system import debug
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.file_bytes import MappedFile
from megengine_lite._core.system.files import file_stamp, open_file, write_made
from megengine_lite.base import __version__
from megengine_lite.errors import LiteError, ModelFormatError
from megengine_lite.log import logger, warn

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._api.engine import Engine
    from megengine_lite._api.options import LiteConfig
    from megengine_lite._api.run_settings import RunSettings
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.session_config import AlgoPolicy

MODEL = "model"
MODEL_FILE = "model file"
"""Facts about the model: which it is, and the state of its file at that time."""


def facts_of(settings: RunSettings, algo: AlgoPolicy) -> dict[str, str]:
    """All that a plan depends on but the model, as text by name."""
    device = settings.device
    config = settings.session_config(algo)
    with errors_of(device):
        facts = device.facts_of_plans(config)
    options = {
        "fuse": config.fuse,
        "fuse_elemwise": config.fuse_elemwise,
        "algorithms": config.algo,
    }
    return {
        "release": __version__,
        "device": device.name,
        **facts,
        "threads": str(config.threads),
        "precision": config.precision,
        "narrow_double": str(settings.narrow_double),
        "options": ", ".join(f"{name}={value}" for name, value in options.items()),
    }


def fits(prepared: PreparedModel, settings: RunSettings, algo: AlgoPolicy) -> bool:
    """Whether a network with these settings may run a prepared model."""
    return _other_fact(prepared.facts, facts_of(settings, algo)) == ""


def open_prepared(
    path: str, source: str | bytes | memoryview, source_config: LiteConfig, settings: RunSettings, algo: AlgoPolicy
) -> PreparedModel | None:
    """The prepared model in a file, or None after a warning if it was made for something else.

    Parameters
    ----------
    path
        The file.
    source, source_config
        The model, and how it is encrypted.
    settings, algo
        What the network is to run with.

    Raises
    ------
    ModelFormatError
        The file is damaged, or no prepared file.
    LiteFileNotFoundError, LiteOSError
        There is no such file, or it cannot be read.
    """
    with open_file(path) as opened:
        file = PreparedFile(MappedFile(opened, path), path)
    difference = _difference(file, source, source_config, settings, algo)
    if difference:
        warn(f"{path} {difference}. The model is loaded as usual, which takes longer; prepare it again")
        return None
    if debug.level():
        logger.info("%s: not used, because %s asks for a plan that is made here", path, debug.VARIABLE)
        return None
    load = partial(_load_same, source, source_config, _identity_in(file.facts), settings.narrow_double)
    return PreparedModel(file.read(), path, load)


def _difference(
    file: PreparedFile,
    source: str | bytes | memoryview,
    source_config: LiteConfig,
    settings: RunSettings,
    algo: AlgoPolicy,
) -> str:
    """In what the file was made for something else; empty if in nothing."""
    if file.version != FORMAT_VERSION:
        return f"has version {file.version} of the format, and this release reads {FORMAT_VERSION}"
    if not _is_plain(source_config):
        return "was prepared for a plain model, and this one is to be decrypted or decompressed"
    difference = _other_fact(file.facts, facts_of(settings, algo))
    if difference:
        return difference
    known = _identity_in(file.facts)
    then, now = known.content, identity_of(source, known).content
    return "" if then == now else f"was prepared for a model {then}, and this one is {now}"


def _identity_in(facts: Mapping[str, str]) -> ModelIdentity:
    return ModelIdentity(facts.get(MODEL, ""), facts.get(MODEL_FILE, ""))


def _is_plain(config: LiteConfig) -> bool:
    return not config.bare_model_cryption_name and not config.has_compression


def _other_fact(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first fact that differs, except for the model."""
    for name in dict.fromkeys((*now, *then)):
        if name not in (MODEL, MODEL_FILE) and then.get(name) != now.get(name):
            return f"was prepared for {name} {then.get(name, 'none')}, and here it is {now.get(name, 'none')}"
    return ""


def _load_same(
    source: str | bytes | memoryview, source_config: LiteConfig, identity: ModelIdentity, narrow_double: bool
) -> LoadedModel:
    """The model that was prepared.

    Raises
    ------
    ModelFormatError
        It is another one by now.
    """
    if identity_of(source, identity).content != identity.content:
        what = source if isinstance(source, str) else "model"
        raise ModelFormatError(
            f"{what}: it was overwritten after its prepared form was loaded, and it is needed now, for inputs of "
            "another shape or for a report. Load it again"
        )
    return read_model(source, source_config, narrow_double)


def write_prepared_file(
    engine: Engine,
    source: str | bytes | memoryview,
    source_config: LiteConfig,
    feeds: Mapping[str, np.ndarray],
    path: str,
) -> None:
    """Writes the prepared form of a network's model for inputs of the shapes of ``feeds``.

    Raises
    ------
    LiteError
        The model cannot be prepared; the message says why.
    """
    from megengine_lite._core.formats.containers import aes_gcm
    from megengine_lite._core.formats.containers.model_source import open_source
    from megengine_lite._core.formats.prepared.writer import write_prepared
    from megengine_lite._core.runtime.prepared import record_of

    model = engine.model_with_graph()
    if not _is_plain(source_config) or bytes(open_source(source)[0][: len(aes_gcm.MAGIC)]) == aes_gcm.MAGIC:
        raise LiteError("an encrypted or compressed model is not prepared: the file would have its weights as they are")
    if model.package is not None:
        raise LiteError("a package is not prepared; unpack it, and prepare the model")
    session = engine.session_for(feeds)
    identity = identity_of(source)
    if isinstance(source, str) and file_stamp(source) != model.stamp:
        raise LiteError(f"{source}: the file has changed since it was loaded, and is not prepared; load it again")
    facts = {
        **facts_of(engine.settings, session.config.algo),
        MODEL: identity.content,
        MODEL_FILE: identity.state,
    }
    record = record_of(session, facts)
    if len(model.other_files):
        raise LiteError(
            "a model with weights in other files is not prepared, because they may change; put them into it"
        )
    write_made(path, write_prepared(record), source if isinstance(source, str) else None)
