"""The table of instruction sets: what it says is what kernels were compiled for, and what others read from it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.instruction_sets import INSTRUCTION_SETS, chosen_sets
from support.places import IN_CHECKOUT, ROOT, TESTS

import megengine_lite
from megengine_lite import cpu_info
from megengine_lite._core.cpu import isa as table
from megengine_lite._core.cpu import kernel_set as kernel_sets
from megengine_lite._core.cpu.isa import ARM32, ARM64, OTHER, X86_64, DotKind, full_name, instruction_sets, usual_sets
from megengine_lite._core.cpu.kernel_set import kernel_set, runnable_sets
from megengine_lite._core.system import processor
from megengine_lite.errors import DeviceError


def test_a_name_stands_once_for_each_architecture():
    keys = [(row.architecture, row.name) for row in table.INSTRUCTION_SETS]
    assert len(set(keys)) == len(keys)
    assert {a for a, _ in keys} == {X86_64, ARM64, ARM32, OTHER}


@pytest.mark.parametrize("architecture", [X86_64, ARM64, ARM32, OTHER])
def test_every_architecture_has_a_set_for_all(architecture):
    """A set that all processors of it run; one feature may be asked for, which those without are too old for."""
    (row,) = (row for row in instruction_sets(architecture).values() if row.for_all)
    assert len(row.features) <= 1
    assert usual_sets(architecture)[-1] == row.name


def test_base_is_a_name_of_the_set_for_all():
    lowest = usual_sets()[-1]
    assert (full_name("base"), full_name(lowest), full_name("other")) == (lowest, lowest, "other")
    assert kernel_set("base") is kernel_set(lowest)


def test_sets_below_the_one_for_all_are_not_used_by_themselves(monkeypatch):
    slow = table.InstructionSet("slow", table.architecture(), "portable.h", 16, 16, DotKind.PAIRS_16)
    usual, native = usual_sets(), table.native_sets(["__SSE4_1__"])
    monkeypatch.setattr(table, "INSTRUCTION_SETS", (*table.INSTRUCTION_SETS, slow))
    assert [*instruction_sets()][-1] == "slow"
    assert (usual_sets(), table.native_sets(["__SSE4_1__"])) == (usual, native)
    assert table.native_sets([]) == [full_name("base")] == usual[-1:]


def test_the_table_of_x86_64():
    sets = instruction_sets(X86_64)
    expected = {
        "avx512": (16, 32, DotKind.U8S8_QUADS),
        "avx2_vnni": (8, 16, DotKind.U8S8_QUADS),
        "avx2": (8, 16, DotKind.SHORT_PAIRS),
        "base": (4, 16, DotKind.SHORT_PAIRS),
    }
    assert {name: (sets[name].width, sets[name].registers, sets[name].dot) for name in expected} == expected
    assert [name for name in sets if name in expected] == [*expected]  # the best first


def test_the_table_of_arm64():
    sets = instruction_sets(ARM64)
    assert [(name, row.dot) for name, row in sets.items()] == [
        ("i8mm", DotKind.MIXED_QUADS),
        ("dotprod", DotKind.S8S8_QUADS),
        ("neon", DotKind.S8S8_STEPS),
    ]
    assert {(row.width, row.registers, row.by_lane, row.header) for row in sets.values()} == {(4, 32, True, "neon.h")}
    assert {*sets["neon"].features} < {*sets["dotprod"].features} < {*sets["i8mm"].features}


def test_the_table_of_arm32():
    """Vectors are not of every processor; both sets are in plain C, which gcc makes into them."""
    sets = instruction_sets(ARM32)
    assert [*sets] == ["neon", "base"]
    assert {(row.width, row.registers, row.header) for row in sets.values()} == {(4, 16, "portable.h")}
    assert "-funsafe-math-optimizations" in sets["neon"].flags("gcc")


@pytest.mark.parametrize(("width", "costs"), [(16, (19.2, 32)), (8, (9.6, 16)), (4, (4.8, 8))])
def test_costs_follow_from_the_lanes(width, costs):
    assert {row.costs for row in table.INSTRUCTION_SETS if row.width == width} == {costs}


def test_flags_of_a_compiler():
    row = table.InstructionSet("new", OTHER, "portable.h", 8, 16, DotKind.PAIRS_16, gcc=("-a",), clang=("-b",))
    defined = ("-DML_SIMD_HEADER=simd/portable.h", "-DVW=8", "-DVREGS=16")
    dot = ("-DDOT_UNSIGNED=0", "-DDOT_SIGNED=0", "-DDOT_SHORT=0", "-DDOT_STEPS=0")
    dot = (*dot, "-DDOT_MATRIX=0", "-DDOT_BFLOAT16=0", "-DBY_LANE=0")
    assert (row.flags("gcc"), row.flags("clang")) == ((*defined, *dot, "-a"), (*defined, *dot, "-b"))
    row = table.InstructionSet("new", OTHER, "new.h", 8, 16, DotKind.U8S8_QUADS, gcc=("-a",))
    assert row.flags("clang")[-8:] == ("-DDOT_UNSIGNED=1", *dot[1:], "-a")
    row = table.InstructionSet("new", OTHER, "new.h", 8, 16, DotKind.MIXED_QUADS, by_lane=True)
    assert row.flags("clang")[-4:] == ("-DDOT_STEPS=0", "-DDOT_MATRIX=1", "-DDOT_BFLOAT16=0", "-DBY_LANE=1")
    row = table.InstructionSet("new", OTHER, "new.h", 8, 16, DotKind.S8S8_STEPS)
    assert row.flags("gcc")[-3:] == ("-DDOT_MATRIX=0", "-DDOT_BFLOAT16=0", "-DBY_LANE=0")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("linux-aarch64", ARM64),
        ("macosx-11.0-arm64", ARM64),
        ("android-24-arm64_v8a", ARM64),
        ("linux-x86_64", X86_64),
        ("linux-armv7l", ARM32),
        ("linux-riscv64", OTHER),
    ],
)
def test_a_cross_build_names_its_architecture(target, found, monkeypatch):
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", target)
    assert table.architecture() == found


@pytest.mark.parametrize(
    ("machine", "largest", "found"),
    [
        ("aarch64", 2**63 - 1, ARM64),
        ("aarch64", 2**31 - 1, ARM32),  # Raspberry Pi OS of 32 bits has a kernel of 64
        ("armv7l", 2**31 - 1, ARM32),
        ("x86_64", 2**31 - 1, OTHER),
        ("riscv64", 2**63 - 1, OTHER),
    ],
)
def test_a_python_of_32_bits_has_an_architecture_of_32_bits(machine, largest, found, monkeypatch):
    monkeypatch.delenv("_PYTHON_HOST_PLATFORM", raising=False)
    monkeypatch.setattr(table.os, "uname", lambda: SimpleNamespace(machine=machine), raising=False)
    monkeypatch.setattr(table.sys, "maxsize", largest)
    assert table.architecture() == found


KNOWN_BITS = {X86_64: processor._X86_BITS, ARM64: processor._ARM64_BITS, ARM32: processor._ARM32_BITS}


@pytest.mark.parametrize(("architecture", "known"), KNOWN_BITS.items())
def test_detector_knows_the_features(architecture, known):
    needed = {feature for row in instruction_sets(architecture).values() for feature in row.features}
    assert needed <= known.keys()


def test_a_set_is_refused_for_each_feature_that_is_missing(monkeypatch):
    """One that the system masks, say: its kernels are never called."""
    found = processor.features()
    for name in runnable_sets():
        for feature in instruction_sets()[name].features:
            monkeypatch.setattr(processor, "features", lambda lacking=feature: found - {lacking})
            assert kernel_sets._obstacles.__wrapped__()[name] == f"this processor or system lacks {feature}"


FORCED_BEST = "MEGENGINE_LITE_ISA=best: not in this build; unset it to use what can run here: good, base"
NOTHING = "no kernels can run here (best: not in this build; good: lacks x; base: lacks x); rebuild the package"


@pytest.mark.parametrize(
    ("forced", "name", "obstacles", "message"),
    [
        ("best", None, {"best": "not in this build", "good": "", "base": ""}, FORCED_BEST),
        (
            "",
            "best",
            {"best": "lacks x", "good": "", "base": ""},
            "for best cannot run here: lacks x; those that can: good, base",
        ),
        ("", "best", {"best": "lacks x", "base": "lacks x"}, "for best cannot run here: lacks x; those that can: none"),
        ("", None, {"best": "not in this build", "good": "lacks x", "base": "lacks x"}, NOTHING),
        ("best", None, {"best": "not in this build", "good": "lacks x", "base": "lacks x"}, NOTHING),
    ],
)
def test_what_cannot_run_is_an_error_that_names_what_can(forced, name, obstacles, message, monkeypatch):
    monkeypatch.setattr(kernel_sets, "_forced", lambda: forced)
    monkeypatch.setattr(kernel_sets, "_obstacles", lambda: obstacles)
    monkeypatch.setattr(kernel_sets, "_choice", kernel_sets._choice.__wrapped__)
    monkeypatch.setattr(kernel_sets, "instruction_sets", lambda: dict.fromkeys(obstacles))
    with pytest.raises(DeviceError, match=re.escape(message) + "$"):
        kernel_sets._instruction_set.__wrapped__(name)


@pytest.mark.parametrize("missing", [None, *instruction_sets()])
def test_a_set_needs_what_it_takes_modules_from(missing, monkeypatch):
    everything = {feature for row in instruction_sets().values() for feature in row.features}
    monkeypatch.setattr(processor, "features", lambda: everything)
    monkeypatch.setattr(kernel_sets, "_built", lambda name: name != missing)
    refused = {name for name, obstacle in kernel_sets._obstacles.__wrapped__().items() if obstacle}
    assert refused == {name for name, row in instruction_sets().items() if missing in (name, row.others_from)}


def test_a_build_without_the_best_set_takes_the_next(monkeypatch):
    monkeypatch.setattr(kernel_sets, "_forced", lambda: "")
    monkeypatch.setattr(kernel_sets, "_obstacles", lambda: {"best": "not in this build", "good": "", "base": ""})
    assert kernel_sets._choice.__wrapped__() == ("good", {"best": "not in this build", "base": "good is better"})


# ---- headers and kernels ---------------------------------------------------------------------------------------------

SIMD = ROOT / "megengine_lite" / "kernels" / "common" / "simd"
OPERATION = re.compile(r"^(?:ML_INLINE \w+ |#define )(\w+)[( ]", re.M)
INCLUDED = re.compile(r'^#include "(.+)"', re.M)


def operations(header: str) -> set[str]:
    """What a header and those that it includes define, as functions or as other names of functions; ML_ begins its own
    helpers."""
    text = (SIMD / header).read_text()
    names = {n for n in OPERATION.findall(text) if not n.endswith("_H") and not n.upper().startswith("ML_")}
    return names.union(*(operations(other) for other in INCLUDED.findall(text)))


@pytest.mark.parametrize("header", sorted({row.header for row in table.INSTRUCTION_SETS}))
def test_header_has_every_operation(header):
    plain = {name.removeprefix("plain_") for name in operations("plain.h")}
    assert len(plain) >= 30
    assert operations(header) == plain


def with_includes(header: str) -> str:
    text = (SIMD / header).read_text()
    return text + "".join(map(with_includes, INCLUDED.findall(text)))


@pytest.mark.parametrize("row", table.INSTRUCTION_SETS, ids=lambda row: f"{row.architecture}-{row.name}")
def test_sets_that_widen_float16_by_an_instruction_are_known(row):
    assert ("#define vf_load_f16 plain_vf_load_f16" not in with_includes(row.header)) == row.widens_float16


def test_no_header_without_a_row():
    used = {row.header for row in table.INSTRUCTION_SETS} | {"plain.h"}
    included = {name for header in used for name in INCLUDED.findall((SIMD / header).read_text())}
    assert {p.name for p in SIMD.glob("*.h")} == used | included


CONDITION = re.compile(r"#\s*(?:if|elif).*__(?:AVX|SSE|F16C|ARM|aarch64|x86_64)")
KERNELS = [*(ROOT / "megengine_lite" / "kernels").rglob("*")] if IN_CHECKOUT else []
C_SOURCES = [p for p in KERNELS if p.suffix in (".h", ".pxd", ".pyx")]


@pytest.mark.parametrize("source", [str(s.relative_to(ROOT)) for s in C_SOURCES if s.parent != SIMD])
def test_kernels_do_not_ask_for_the_instruction_set(source):
    assert CONDITION.findall((ROOT / source).read_text()) == []


SHARING = [row for row in table.INSTRUCTION_SETS if row.others_from]
CIMPORT = re.compile(r"^from megengine_lite\.kernels\.(\S+ cimport (?:\([^)]*\)|.+))", re.M)


def definitions(header: str) -> dict[str, str]:
    """What a header and those that it includes define, each by its name, without comments and what is not code."""
    _, *parts = OPERATION.split(with_includes(header))
    bodies = (re.sub(r"#(include|if|endif).*|/\*.*?\*/|\s", "", body) for body in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))


def what_differs(row: table.InstructionSet, other: table.InstructionSet) -> set[str]:
    """The macros and vector operations that mean another thing to kernels."""
    own, others = definitions(row.header), definitions(other.header)
    flags = (flag[2:].partition("=")[0] for flag in {*row.flags("gcc")} ^ {*other.flags("gcc")} if flag[:2] == "-D")
    return {*flags} - {"ML_SIMD_HEADER"} | {name for name in own.keys() & others if own[name] != others[name]}


def with_cimports(source: Path) -> str:
    """The text of a kernel source and of all that it takes from other sources; simd.pxd only tells Cython the names."""
    text = source.read_text()
    words = {*re.findall(r"\w+", " ".join(CIMPORT.findall(text)))} - {"simd"}
    return text + "".join(with_cimports(p) for p in KERNELS if p.suffix == ".pxd" and p.stem in words)


@pytest.mark.parametrize("row", SHARING, ids=lambda row: f"{row.architecture}-{row.name}")
def test_a_set_takes_the_modules_that_would_be_the_same(row):
    other = instruction_sets(row.architecture)[row.others_from]
    own = {field: getattr(row, field) for field in ("name", "header", "dot", "features", "gcc", "others_from")}
    assert other._replace(**own) == row
    assert not other.others_from and {*other.features} < {*row.features} and {*other.gcc} < {*row.gcc}
    differing = what_differs(row, other)
    assert {"DOT_UNSIGNED", "vi_dot"} <= differing
    word = re.compile(rf"\b(?:{'|'.join(differing)})\b")
    modules = {p.stem: with_cimports(p) for p in KERNELS if p.suffix == ".pyx"}
    assert {name for name, text in modules.items() if word.search(text)} == {*table.DOT_MODULES}
    assert all(row.home_of(name) == (row.name if name in table.DOT_MODULES else other.name) for name in modules)
    assert all(other.home_of(name) == other.name for name in modules)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_kernels_agree_with_the_table(isa):
    row, kernels = instruction_sets()[isa], kernel_set(isa)
    assert kernels.isa == row
    assert (kernels.name, kernels.width) == (row.name, row.width)
    assert kernels.module("probe").run_multiply_adds(1) == 12 * 2 * row.width
    assert row.registers == kernels.module("probe").REGISTERS
    assert (row.dot is DotKind.S8S8_STEPS) == kernels.module("probe").DOT_TAKES_STEPS
    gemm = kernels.module("gemm_int8")
    assert (row.dot is DotKind.U8S8_QUADS) == gemm.UNSIGNED_DOT
    assert row.registers >= 2 * gemm.BLOCK_ROWS + 3  # sums of two vectors a row, their weights, and a value


def test_cpu_info_and_the_table_have_the_same_names():
    info = cpu_info()
    assert {*info["refused"], info["chosen"]} - {""} == {*instruction_sets()}
    assert info["chosen"] in runnable_sets()


def test_the_build_reads_the_table():
    """By its path, before the package exists."""
    code = f"import runpy; print(*runpy.run_path({table.__file__!r})['instruction_sets']())"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*instruction_sets()]
    assert "isa.py" in (ROOT / "setup.py").read_text()


def test_the_page_about_performance_shows_the_table():
    """Names and widths; the features in the words of people."""
    text = (ROOT / "docs" / "performance.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (\d+) \|", text, re.M)
    described = {name: (set(re.findall(r"\w+", needs.upper())), int(width)) for name, needs, width in rows}
    sets = {**instruction_sets(ARM64), **instruction_sets(X86_64)}
    assert described.keys() == sets.keys()
    for name, row in sets.items():
        words, width = described[name]
        assert width == row.width
        assert {f.upper().removeprefix("AVX512").replace(".", "") for f in row.features} <= words | {"SSE41"}


@pytest.mark.parametrize("modules", ["with", "without"])
def test_machines_of_the_other_byte_order_are_refused(modules, tmp_path):
    """Also where nothing has been compiled: building it would be in vain."""
    folder = None
    if modules == "without":
        folder, package = tmp_path, tmp_path / "megengine_lite"
        package.mkdir()
        for name in ("__init__.py", "_interrupts.py", "_compiled.py"):
            shutil.copy(Path(megengine_lite.__file__).parent / name, package)
    code = "import sys; sys.byteorder = 'big'; import megengine_lite"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert "ImportError: megengine_lite runs on little-endian processors only" in done.stderr


NAMES = {row.name for row in table.INSTRUCTION_SETS} - {"base"}  # "base" is a usual word
SOURCES = (
    [
        *(p for p in (ROOT / "megengine_lite").rglob("*.py") if p.name != "isa.py"),
        *(ROOT / "tools").glob("*.py"),
        ROOT / "setup.py",
    ]
    if IN_CHECKOUT
    else []
)


@pytest.mark.parametrize("source", [str(s.relative_to(ROOT)) for s in SOURCES])
def test_no_other_source_knows_the_names(source):
    """In its code, that is; examples in docstrings and help may use one."""
    strings = re.findall(r"""(["'])(\w+)\1""", (ROOT / source).read_text())
    assert NAMES.isdisjoint(word for _, word in strings)


# ---- the choice of tests ---------------------------------------------------------------------------------------------


def test_choice_of_the_sets_that_tests_run_on():
    here = [*runnable_sets()]
    assert chosen_sets("") == here[::-1]
    assert chosen_sets(f" {here[0]} ") == [here[0]]
    assert chosen_sets(",".join(here)) == here[::-1]
    assert chosen_sets("best") == [here[0]]
    with pytest.raises(ValueError, match=f"avx3: no instruction set that runs here; there are {', '.join(here[::-1])}"):
        chosen_sets("avx3")


def run_pytest(folder, *arguments):
    """The tests of one kernel, from a folder outside of the checkout: there the package that is tested is found."""
    where = ["-c", str(ROOT / "pyproject.toml"), str(TESTS / "kernels" / "test_kernels_fill.py")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, *where]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("by_option", [True, False])
def test_option_limits_parametrized_tests(by_option, monkeypatch, tmp_path):
    best = runnable_sets()[0]
    options = ["--isa", best] if by_option else []
    monkeypatch.setenv("MEGENGINE_LITE_TEST_ISA", "" if by_option else best)
    done = run_pytest(tmp_path, "--collect-only", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*re.findall(r"[A-Za-z0-9]+", done.stdout)} & {*instruction_sets()} == {best}


def test_option_refuses_what_cannot_run(tmp_path):
    done = run_pytest(tmp_path, "--isa", "avx3")
    assert done.returncode == 4
    assert "avx3: no instruction set that runs here" in done.stderr
