"""tools/build_wheels.py: what it unpacks and copies, which wheels it refuses, and that a failure is not the end."""

import io
import os
import sys
import tarfile

import pytest
from support.places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
build_wheels = pytest.importorskip("build_wheels", reason="the scripts of the repository are not here")

OLD = 1000.0  # the time of files that were there before


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"megengine_lite-0/{name}")
            member.size = len(text)
            member.mode = 0o755 if name == "run" else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_files_that_are_the_same_keep_their_times(tmp_path):
    folder = tmp_path / "unpacked"
    for name in ("same.c", "changed.c", "gone.c", "build/same.o"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("before")
        os.utime(folder / name, (OLD, OLD))
    archive = write_archive(tmp_path / "a.tar.gz", {"same.c": "before", "changed.c": "now", "new/run": "x", "run": "x"})
    build_wheels.unpack(archive, folder)
    times = {p.relative_to(folder).as_posix(): p.stat().st_mtime == OLD for p in folder.rglob("*") if p.is_file()}
    assert times == {"same.c": True, "changed.c": False, "new/run": False, "run": False, "build/same.o": True}
    assert (folder / "changed.c").read_text() == "now"
    assert os.access(folder / "run", os.X_OK) and not os.access(folder / "new" / "run", os.X_OK)


def test_tests_have_what_cibuildwheel_copies(tmp_path):
    pytest.importorskip("tomllib", reason="Python 3.11 can read TOML")
    source, target = tmp_path / "source", tmp_path / "outside"
    for name in ("tests/test_a.py", "docs/deep/index.md", "package/kernels/__init__.py", "package/base.py", "setup.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "pyproject.toml").write_text(
        '[tool.cibuildwheel]\ntest-sources = ["tests", "docs", "package/kernels", "setup.py"]\n'
    )
    (target / "tests").mkdir(parents=True)
    (target / "tests" / "left_behind.py").touch()
    build_wheels.copy_tests(source, target)
    assert {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()} == {
        "tests/test_a.py",
        "docs/deep/index.md",
        "package/kernels/__init__.py",
        "setup.py",
    }


def fake_repair(monkeypatch, size, status=0):
    """auditwheel writes a wheel of that many bytes."""

    def run(step, command, **settings):
        if status:
            raise build_wheels.Failure(f"{step} ended with status {status}")
        target = command[command.index("-w") + 1]
        with open(os.path.join(target, "megengine_lite-0-cp313-cp313-manylinux_2_17_x86_64.whl"), "wb") as file:
            file.truncate(size)

    monkeypatch.setattr(build_wheels, "run", run)


def test_a_wheel_that_is_too_large_is_refused(tmp_path, monkeypatch):
    fake_repair(monkeypatch, 5_000_000)
    wheel = build_wheels.repair(tmp_path / "x.whl", tmp_path / "wheels")
    assert [*(tmp_path / "wheels").iterdir()] == [wheel]
    fake_repair(monkeypatch, 5_000_001)
    with pytest.raises(build_wheels.Failure, match="has 5000001 bytes; a wheel must not have more than 5000000"):
        build_wheels.repair(tmp_path / "x.whl", tmp_path / "wheels")


def test_free_threading_is_part_of_the_tag(tmp_path):
    python = tmp_path / "python"
    for said, tag in (("cp313 1", "cp313t"), ("cp313 0", "cp313"), ("cp310 None", "cp310")):
        python.write_text(f"#!/bin/sh\necho '{said}'\n")
        python.chmod(0o755)
        assert build_wheels.tag_of(python) == tag
    assert build_wheels.tag_of(sys.executable) == f"cp{sys.version_info[0]}{sys.version_info[1]}" + "t" * (
        "free-threading" in sys.version
    )


def test_a_failure_is_a_line_and_the_next_python_follows(tmp_path, monkeypatch, capsys):
    def make_sdist(folder):
        return write_archive(folder / "a.tar.gz", {"setup.py": ""})

    def build(python, source, target, environment):
        if "old" in str(target):
            raise build_wheels.Failure("wheel ended with status 1")
        return target

    monkeypatch.setattr(build_wheels, "make_sdist", make_sdist)
    monkeypatch.setattr(build_wheels, "require_packages", lambda: None)
    monkeypatch.setattr(build_wheels, "tag_of", lambda python: python.name)
    monkeypatch.setattr(build_wheels, "new_environment", lambda python, folder: folder)
    monkeypatch.setattr(build_wheels, "build", build)
    fake_repair(monkeypatch, 2_500_000)
    monkeypatch.setattr(sys, "argv", ["build_wheels.py", "--folder", str(tmp_path), "--no-tests", "old", "new"])
    assert build_wheels.main() == 1
    lines = [line.split(" | ")[:4] for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        ["old", "no wheel", "-", "wheel ended with status 1"],
        ["new", "megengine_lite-0-cp313-cp313-manylinux_2_17_x86_64.whl", "2.50 MB", "not tested"],
    ]


def test_what_follows_two_dashes_is_for_pytest():
    assert build_wheels.split_arguments(["a", "--arm64", "--", "tests/api", "-k", "x"]) == (
        ["a", "--arm64"],
        ["tests/api", "-k", "x"],
    )
    assert build_wheels.split_arguments(["a"]) == (["a"], [])


def test_no_variable_of_this_python_reaches_the_other(monkeypatch):
    for name in ("PYTHONPATH", "MEGENGINE_LITE_BUILD_ISA", "VIRTUAL_ENV", "CCACHE_DIR"):
        monkeypatch.setenv(name, "x")
    environment = build_wheels.clean_environment()
    assert environment["CCACHE_DIR"] == "x"
    assert not {"PYTHONPATH", "MEGENGINE_LITE_BUILD_ISA", "VIRTUAL_ENV"} & {*environment}
