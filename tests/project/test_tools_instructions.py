"""benchmarks/instructions.py: loops in what objdump prints, and counts in what callgrind writes."""

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


def test_innermost_loops_with_a_product_of_vectors():
    assert instructions.product_loops(X86) == [(0x1006, 0x100B)]
    assert instructions.product_loops(ARM) == [(0x4, 0xC)]


def test_calls_are_not_counted_twice():
    found = instructions.read_counts(COUNTS)
    assert found == {"/lib/_avx2.so": {0x1006: 500, 0x100B: 400, 0x1016: 3}, "/lib/libc.so.6": {0x2000: 70}}
