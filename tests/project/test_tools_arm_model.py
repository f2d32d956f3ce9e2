"""benchmarks/arm_model.py: loops, products and spills in what objdump prints."""

import sys

import pytest
from support.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
arm_model = pytest.importorskip("arm_model", reason="the scripts of the repository are not here")
Instruction, inner_loops, read_listing = arm_model.Instruction, arm_model.inner_loops, arm_model.read_listing

LISTING = """
module.o:     file format elf64-littleaarch64

Disassembly of section .text:

0000000000000000 <first>:
   0:	mov	x0, #0x0                   	// #0
   4:	ldr	q0, [x1], #16
   8:	str	q9, [sp, #32]
   c:	fmla	v2.4s, v0.4s, v1.s[2]
  10:	ldp	q9, q10, [sp, #32]
  14:	sdot	v3.4s, v0.16b, v1.4b[0]
  18:	subs	x0, x0, #0x1
  1c:	b.ne	4 <first+0x4>  // b.any
  20:	cbnz	x2, 0 <first>
  24:	ret

0000000000000028 <second>:
  28:	smull2	v4.8h, v0.16b, v1.16b
  2c:	tbnz	w3, #5, 28 <second>
"""


def test_functions_and_their_inner_loops():
    functions = dict(read_listing(LISTING))
    assert {name: len(body) for name, body in functions.items()} == {"first": 10, "second": 2}
    (loop,) = inner_loops("first", functions["first"])
    assert [i.address for i in loop.body] == [*range(0x4, 0x20, 4)]
    assert (loop.multiplications, loop.products, loop.spills) == (2, 20, (1, 1))
    (loop,) = inner_loops("second", functions["second"])
    assert (loop.multiplications, loop.products, loop.spills) == (1, 8, (0, 0))


@pytest.mark.parametrize(
    ("name", "operands", "products"),
    [
        ("fmla", "v0.4s, v1.4s, v2.4s", 4),
        ("fmul", "s0, s1, s2", 0),
        ("smlal", "v0.4s, v1.4h, v2.h[3]", 4),
        ("smmla", "v0.4s, v1.16b, v2.16b", 32),
        ("sudot", "v0.4s, v1.16b, v2.4b[1]", 16),
        ("add", "v0.4s, v1.4s, v2.4s", 0),
    ],
)
def test_products_of_an_instruction(name, operands, products):
    assert Instruction(0, name, operands).products == products


def test_newest_version_of_the_model(monkeypatch):
    monkeypatch.setattr(arm_model.shutil, "which", lambda name: f"/bin/{name}" if name != "llvm-mca-19" else None)
    assert arm_model.newest_mca() == "/bin/llvm-mca-30"
    monkeypatch.setattr(arm_model.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs llvm-mca"):
        arm_model.newest_mca()
