"""What the public modules are made of: arguments, options, ports, and the engine that a network drives.

::

    LiteNetwork ─► loading ─► LoadedModel ─► engine ─► session (of ``_core/runtime``)
        │                                      │
        │ network_settings, diagnostics        └─ ports: tensors of inputs and outputs, and their memory
        └ options ─► run_settings                   ▲
                                                    │
    LiteTensor: tensor_data ◄─ data_sources ◄─ arrays, lists, raw memory
                tensor_reading ─► arrays, addresses, DLPack

* ``engine`` - forward, wait and callbacks; start here
* ``loading`` - a file or bytes become a model; ``io_info`` tells its inputs and outputs; ``preparing`` - prepared files
* ``network_settings``, ``diagnostics`` - parts of ``LiteNetwork``: settings before load; profiles, dumps, memory
* ``options``, ``network_io``, ``layout`` - settings, inputs and layouts, as programs write them
* ``run_settings`` - what is settled before load
* ``typed_errors`` - errors of the system in calls of the API
* ``arguments``, ``data_sources`` - checks of arguments; where data can come from
* ``tensor_data``, ``tensor_reading`` - parts of ``LiteTensor``: how data gets in, and out
* ``model_inputs``, ``model_outputs``, ``batches`` - parts of ``Model``: arguments and results of a call;
  ``large_batches`` - some samples at a time; ``load_options`` - what ``load`` and ``Predictor`` take; ``measured`` -
  what it tells of its own work
* ``columns`` - batches of rows as tools for data hold them; ``random_values`` - values of inputs that nobody gave;
  ``integer_inputs`` - which integers these may be
* ``notebooks``, ``progress_bars`` - what notebooks show of these objects; bars of the package tqdm
* ``model_reports``, ``model_profiles`` - reports on networks and the times of their steps; ``onnx_export``,
  ``conversion`` - models written as ONNX, as files of MegEngine's; ``comparison`` tells whether such a file computes
  what the model does

The modules of the package itself (``network``, ``tensor`` ...) have the original's names and hold what programs import.
"""
