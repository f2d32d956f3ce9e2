"""The command prepare, and the flag --prepared."""

import json

from support.api_samples import DIGITS

from megengine_lite.cli import main


def outputs(capsys, *flags: object) -> dict[str, object]:
    assert main(["run", str(DIGITS), "--input-desc", "data:4,1,8,8", "--json", *map(str, flags)]) == 0
    said = capsys.readouterr()
    return {"result": json.loads(said.out)["cases"][0]["outputs"], "stderr": said.err}


def test_a_prepared_file_is_written_and_run(tmp_path, capsys):
    path = tmp_path / "digits.prepared"
    words = ["prepare", str(DIGITS), "-o", str(path), "--input-desc", "data:4,1,8,8", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["inputs"] == {"data": [4, 1, 8, 8]} and result["written"] == {str(path): path.stat().st_size}
    usual, quick = outputs(capsys), outputs(capsys, "--prepared", path)
    assert quick == usual and usual["stderr"] == ""
    other = outputs(capsys, "--prepared", path, "--threads", 2)
    assert other["result"] == usual["result"] and "prepared for threads 1, and here it is 2" in other["stderr"]


def test_a_prepared_file_does_not_replace_the_model(tmp_path, capsys):
    model = tmp_path / "model.mge"
    model.write_bytes(DIGITS.read_bytes())
    assert main(["prepare", str(model), "-o", str(model)]) == 1
    assert "model" in capsys.readouterr().err
    assert model.read_bytes() == DIGITS.read_bytes()
