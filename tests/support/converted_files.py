"""Files that the command convert makes of models of ONNX."""

from onnx import helper

from megengine_lite.cli import main


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def written(tmp_path, model, *flags):
    """The file that the command makes."""
    source, out = tmp_path / "model.onnx", tmp_path / "model.mge"
    source.write_bytes(model.SerializeToString())
    assert main(["convert", str(source), str(out), *flags]) == 0
    return out
