"""Runs model files by the original MegEngine Lite; a part of ``compare_with_original``, in a Python that has that.

Each line of the standard input is ``SETTING STEM``: ``STEM.mge`` is run with the inputs in ``STEM.in.npz``, which are
called ``RUN:NAME``. The results go to ``STEM.out.npz``: ``RUN:K`` for each output and ``names``, or ``error``. Then a
line is written to the standard output.
"""

import sys

import megenginelite as lite
import numpy as np


def _network(setting):
    config = lite.LiteConfig()
    if setting == "unoptimized":
        config.options.graph_opt_level = 0
    elif setting == "nchw88":
        config.options.enable_nchw88 = 1
    elif setting == "nchw44":
        config.options.enable_nchw44 = 1
    elif setting == "preprocessed":
        config.options.weight_preprocess = 1
    network = lite.LiteNetwork(config)
    if setting == "threads":
        network.threads_number = 2
    if setting == "fastrun":
        network.set_network_algo_policy(lite.LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
    return network


def _results(stem, setting):
    inputs = np.load(stem + ".in.npz")
    runs = 1 + max((int(key.split(":")[0]) for key in inputs), default=0)
    network = _network(setting)
    network.load(stem + ".mge")
    names = network.get_all_output_name()
    results = {"names": np.array(names)}
    for k in [*range(runs)] * (2 if runs > 1 else 1):
        for name in network.get_all_input_name():
            network.get_io_tensor(name).set_data_by_copy(inputs[f"{k}:{name}"])
        network.forward()
        network.wait()
        for i, name in enumerate(names):
            results[f"{k}:{i}"] = network.get_io_tensor(name).to_numpy().copy()
    return results


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        setting, stem = line.strip().split(" ", 1)
        try:
            results = _results(stem, setting)
        except Exception as error:
            results = {"error": f"{type(error).__name__}: {error}"}
        np.savez(stem + ".out.npz", **results)
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
