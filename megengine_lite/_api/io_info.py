"""The inputs and outputs of a model, without a network. Public under :mod:`megengine_lite.network`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megengine_lite._api.layout import LiteLayout
from megengine_lite._api.loading import read_model, to_source
from megengine_lite._api.network_io import LiteNetworkIO
from megengine_lite._api.options import LiteConfig
from megengine_lite._api.ports import port_code
from megengine_lite._api.typed_errors import typed_errors
from megengine_lite._core.system.late_import import late_import
from megengine_lite.errors import LiteTypeError

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel


def get_model_io_info(model_path: Any, config: LiteConfig | None = None) -> LiteNetworkIO:
    """The inputs and outputs of a model, without a network and without a device.

    Parameters
    ----------
    model_path
        Whatever :meth:`LiteNetwork.load` takes; encrypted and packed models, too.
    config
        Says how the model is encrypted.

    Returns
    -------
    LiteNetworkIO
        Names and layouts. Outputs whose shape depends on data have no dimensions.

    Examples
    --------
    >>> from pathlib import Path
    >>> import megengine_lite
    >>> model = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
    >>> info = megengine_lite.get_model_io_info(model)
    >>> info.inputs[0].name, info.inputs[0].config_layout.shapes[1:]
    ('data', [1, 8, 8])
    """
    with typed_errors("get_model_io_info"):
        if config is None:
            config = LiteConfig()
        if not isinstance(config, LiteConfig):
            raise LiteTypeError(f"config is a LiteConfig, not {type(config).__name__}")
        return _io_info(read_model(to_source(model_path), config))


def _io_info(model: LoadedModel) -> LiteNetworkIO:
    with late_import():
        from megengine_lite._core.runtime.session import Session

    session = Session(model)
    io = LiteNetworkIO()
    for name in session.input_names:
        shape, dtype = session.input_spec(name)
        io.add_input(name, layout=LiteLayout._make(shape, port_code(dtype)))
    for name in session.output_names:
        spec = session.output_spec(name)
        known = session.output_dtype(name) if spec is None else spec[1]
        shape = () if spec is None else spec[0]
        io.add_output(name, layout=LiteLayout() if known is None else LiteLayout._make(shape, port_code(known)))
    return io
