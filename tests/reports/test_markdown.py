"""Text in Markdown: names are never markup, and what is no markup has no backslash."""

from __future__ import annotations

import re

import pytest
from support.api_samples import DIGITS, IMAGES, loaded

from megengine_lite._core.reports.model_report.markdown import cell, line, table

# What means something in Markdown, and how it is written.
MARKUP = {
    "<b>": r"\<b>",
    "a|b": r"a\|b",
    "`x`": r"\`x\`",
    "*x* **y**": r"\*x\* \*\*y\*\*",
    "_x_ x__y a_": r"\_x\_ x\_\_y a\_",
    "~x~": r"\~x\~",
    "$x$": r"\$x\$",
    "[x](y) ![x](y)": r"[x]\(y) ![x]\(y)",
    "[x][y] [x]: y": r"[x]\[y] [x]\: y",
    "[[x]] [^1]": r"\[[x]] \[^1]",
    "{{x}}": r"{\{x}}",
    "&amp; &#35;": r"\&amp; \&#35;",
    "x #": r"x \#",
    "\\<": r"\\\<",
    "x\ny": "x y",
    "see https://a.b/_c_, HTTP://x|y": r"see `https://a.b/_c_,` `HTTP://x`\|y",
    "ftp://a *www.a.b* [x](www.c.d)`": r"`ftp://a` `*www.a.b*` `[x](www.c.d)`\`",
    "<a@b.example>@user #12 own/repo#3": r"`<a@b.example>@user` `#12` `own/repo#3`",
}
PLAIN = [
    "fill_halo_blocked, conv_winograd4_f32", "RELU[0]", "const{1000,192}[412]", "30.0 ms (29.8 to 30.5)", "a -> b",
    "2026-11-30T20:43:34+00:00", "C# & co!", "-1.0000", "x=y", "数_据", "12. ",
]  # fmt: skip


@pytest.mark.parametrize("text", sorted(MARKUP))
def test_markup_is_written_as_text(text):
    assert cell(text) == MARKUP[text] and line(text) == MARKUP[text]
    assert table(["h"], [[text]])[2] == f"| {MARKUP[text]} |"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_markup_stays_as_it_is(text):
    assert cell(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [("# x", r"\# x"), ("> x", r"\> x"), ("- x", r"\- x"), ("+ x", r"\+ x"), ("10. x", r"10\. x"), ("1) x", r"1\) x"),
     ("=", r"\="), ("x - y", "x - y")],
)  # fmt: skip
def test_lines_that_begin_with_a_name_begin_nothing_else(text, written):
    assert line(text) == written


def test_a_printed_report_can_be_searched_for_what_it_shows():
    network = loaded(DIGITS)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    report = network.report(runs=1, warmup=0)
    text = report.to_markdown()
    (content,) = report.content["reports"]
    kernels = {k["kernel"] for node in content["nodes"] for k in node.get("kernels", ())}
    assert kernels and all(re.search(rf"[ ,]{name}[ ,]", text) for name in kernels)
    assert "\\" not in text and f"megengine_lite {content['made_by'].split()[-1]}" in text
