"""benchmarks/instructions.py: loops in what objdump prints, and counts in what callgrind and qemu's plugin write."""

import sys

import pytest
from support.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
instructions = pytest.importorskip("instructions", reason="the scripts of the repository are not here")

X86 = """
0000000000001000 <.text>:
    1000:	xor    %eax,%eax
    1002:	vmovups (%rsi),%ymm1
    1006:	vfmadd231ps (%rdi),%ymm1,%ymm0
    100b:	jne    1006 <.text+0x6>
    100d:	vmovups %ymm0,(%rdx)
    1011:	dec    %rcx
    1014:	jne    1002 <.text+0x2>
    1016:	addss  %xmm1,%xmm0
    101a:	jae    1016 <.text+0x16>
    101c:	vpmaddwd %ymm1,%ymm2,%ymm3
    1020:	jmp    1050 <.text+0x50>
    1025:	vmulss %xmm1,%xmm2,%xmm3
    1029:	jb     1025 <.text+0x25>
"""
ARM = """
   4:	ldr	q0, [x1], #16
   8:	fmla	v2.4s, v0.4s, v1.s[2]
   c:	b.ne	4 <first+0x4>  // b.any
  10:	fmul	s0, s1, s2
  14:	tbnz	w3, #5, 10 <second>
"""
COUNTS = """\
positions: instr line
events: Ir

ob=/lib/_avx2.so
fl=???
fn=???
0x1006 0 400
0x100b 0 400
calls=1 0x2000 0
0x1014 0 7000
0x1016 0 3

ob=/lib/libc.so.6
fn=memcpy
0x2000 0 70

ob=/lib/_avx2.so
0x1006 0 100
"""
MAPS = """\
5500000000-5500001000 r--p 00000000 fe:00 11   /usr/bin/python3.11
5501800000-5501810000 r-xp 00000000 fe:00 12   /lib/_neon.so
5501820000-5501830000 rw-p 00010000 fe:00 12   /lib/_neon.so
5502000000-5502001000 r-xp 00002000 fe:00 13   /lib/libc.so.6
5503000000-5503001000 rwxp 00000000 00:00 0
"""
BLOCKS = """\
5501801006 2 100
550180100a 3 7
5502000010 1 4
5501801006 1 5
5503000010 1 9
5501800000 8 0
"""


def test_innermost_loops_with_a_product_of_vectors():
    assert instructions.product_loops(X86) == [(0x1006, 0x100B)]
    assert instructions.product_loops(ARM) == [(0x4, 0xC)]


def test_what_is_taken_out_of_a_loop_counts_with_it():
    first_round = "".join(f"    {0x2000 + 4 * k:x}:\tfmla\tv{k}.4s, v0.4s, v1.4s\n" for k in range(8))
    bias = "".join(f"    {0x2020 + 4 * k:x}:\tfadd\tv{k}.4s, v0.4s, v1.4s\n" for k in range(17))
    branch, behind = "    2020:\tcbz\tx0, 2080 <next>\n", "    2024:\tldr\tq0, [x0]\n"
    assert instructions.product_loops(first_round + branch + behind) == [(0x2000, 0x2020)]
    assert instructions.product_loops(first_round + bias) == []
    assert instructions.product_loops(first_round.replace("fmla", "fadd", 1) + branch + behind) == []


def test_a_loop_that_prefetches_may_be_in_one_that_multiplies():
    outer = X86.replace("vfmadd231ps (%rdi),%ymm1,%ymm0", "prefetcht1 (%rdi)").replace(
        "vmovups %ymm0,(%rdx)", "vmulps %ymm0,%ymm1,%ymm2"
    )
    assert instructions.product_loops(outer) == [(0x1002, 0x1014)]


def test_calls_are_not_counted_twice():
    found = instructions.read_counts(COUNTS)
    assert found == {"/lib/_avx2.so": {0x1006: 500, 0x100B: 400, 0x1016: 3}, "/lib/libc.so.6": {0x2000: 70}}


def test_blocks_of_the_emulator_become_addresses_in_files():
    found = instructions.read_blocks(BLOCKS, MAPS)
    assert found == {
        "/lib/_neon.so": {0x1006: 105, 0x100A: 107, 0x100E: 7, 0x1012: 7},
        "/lib/libc.so.6": {0x2010: 4},
        "elsewhere": {0x5503000010: 9},
    }
