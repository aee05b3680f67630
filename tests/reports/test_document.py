"""Pages: nothing from outside, nothing unescaped, the same content as HTML and as Markdown; charts that can be read."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tmgan.reports.charts import _thin, curve, intervals, nice_ticks, short
from tmgan.reports.document import Cell, Document, markdown

VOID = {"meta", "br", "img", "line", "circle", "polyline"}


class Outline(HTMLParser):
    """Fails on tags that do not nest; gathers attributes that could load something."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def example() -> Document:
    page = Document("a < b & `c`")
    page.text("**bold** <script>alert(1)</script>")
    page.note("mind")
    page.heading("Table")
    page.table(["x|y", "n"], [["a|b", Cell("1", "0 to 2")], ["<i>", "2"]], "caption")
    page.code("if a < b: pass", "folded")
    page.picture(Image.new("RGB", (8, 4), "red"), "Red one", 'it is "red"')
    page.charts({"loss d": curve("loss <d>", [1, 2, 3], [1.0, None, 2.0])}, "curves")
    return page


def test_html_is_whole_and_loads_nothing():
    text = example().html()
    outline = Outline()
    outline.feed(text)
    assert not outline.open and "script" not in outline.tags and "link" not in outline.tags
    assert outline.sources and all(source.startswith("data:image/") for source in outline.sources)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "&lt;script&gt;" in text and "<strong>bold</strong>" in text and "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text and "<i>" not in text


def test_pictures_are_embedded_unchanged_or_as_jpeg_when_large():
    page = Document("t")
    small = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8))
    page.picture(small, "small", "")
    page.picture(noise, "large", "")
    uris = re.findall(r"data:image/(\w+);base64,([^\"]+)", page.html())
    assert [kind for kind, _ in uris] == ["png", "jpeg"]
    assert np.array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(uris[0][1])))), np.array(small))


def test_markdown_names_files_that_are_there(tmp_path):
    page, plain = example().write(tmp_path, "report")
    text = plain.read_text()
    names = re.findall(r"\]\(([^)]+)\)", text)
    assert names == ["report/red-one.png", "report/loss-d.svg"] and all((tmp_path / name).is_file() for name in names)
    assert "| a\\|b | 1 (0 to 2) |" in text and page.read_text() == example().html()


def test_two_pictures_do_not_overwrite_each_other():
    page = Document("t")
    page.picture(Image.new("RGB", (2, 2)), "a b", "")
    page.picture(Image.new("RGB", (2, 2)), "a-b", "")
    assert "](x/a-b.png)" in page.markdown("x") and "](x/a-b-1.png)" in page.markdown("x")


@pytest.mark.parametrize("low, high", [(0, 1), (-3e-5, 2e-5), (12.1, 12.2), (0, 885500), (5, 5), (0, 0), (-7, -7)])
def test_ticks_are_round_and_enclose(low, high):
    ticks = nice_ticks(low, high, 4)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    assert len({short(tick) for tick in ticks}) == len(ticks)


def test_curves_are_valid_svg_inside_their_frame():
    for x, y in (
        ([10], [3.0]),
        ([1, 2, 3], [1.0, None, 2.0]),
        ([1, 2], [None, None]),
        (list(range(3000)), [float(k % 7) for k in range(3000)]),
    ):
        root = ElementTree.fromstring(curve("a & b", x, y))
        width, height = map(float, root.get("viewBox").split()[2:])
        for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
            points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
            assert len(points) <= 400 and all(0 <= a <= width and 0 <= b <= height for a, b in points)


@pytest.mark.parametrize("missing", [[], range(0, 1000, 7), range(50, 80)])
def test_a_thinned_line_stays_where_it_is(missing):
    """y = x: shifted to one side, the means would leave the line."""
    x = [float(k) for k in range(1000)]
    thin_x, thin_y = _thin(x, [None if k in missing else value for k, value in enumerate(x)])
    assert 300 < len(thin_x) <= 400 and all(
        b is None or b == pytest.approx(a) for a, b in zip(thin_x, thin_y, strict=True)
    )
    assert sum(b is None for b in thin_y) == (9 if missing == range(50, 80) else 0)


def test_intervals_are_hollow_where_nothing_is_sure():
    root = ElementTree.fromstring(intervals("t", [("yes", 2.0, 1.0, 3.0, True), ("no", 0.5, -1.0, 2.0, False)], "unit"))
    fills = [dot.get("style").split(";")[0] for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert "--mark" in fills[0] and "--panel" in fills[1]


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "x](javascript:alert(1))",
    "![x](https://x.y/z.png)",
    "a | b",
    "line\n# heading\n- item",
    "`",
    "```\n<b>",
    "&lt;b&gt;",
    "<!-- ",
    "a\0b\x1b[31mc",
    "# title",
    "1. one",
    "[x]: https://x.y",
    "\\[x](y)",
    "\ud800",
    "\u202edrow",
    "*red* _bird_ ~~gone~~",
    "* item",
    "~~~",
    "***all*** __of__ ~it~",
    "\\*red\\* \\_bird_",
)


def hostile_page(text: str) -> Document:
    """The text in every place that takes one."""
    page = Document(text)
    page.heading(text)
    page.text(text)
    if "`" not in text:
        page.text(f"`{text}` and **{text}**")
    page.note(text)
    page.table([text, "n"], [[text, Cell(text, text)]], text)
    page.code(text, text)
    page.picture(Image.new("RGB", (2, 2)), text, text)
    page.charts({text: curve(text, [1, 2], [1.0, 2.0])}, text)
    return page


def test_markdown_stays_readable_where_nothing_is_markup():
    assert markdown("a_b, 2 * 3, **mask_score** and `_x_ *y*`") == "a_b, 2 * 3, **mask_score** and `_x_ *y*`"
    assert markdown("**_x_** *y* ~z") == "**\\_x\\_** \\*y\\* \\~z"
    assert markdown("1. one") == "1\\. one" and markdown("12)") == "12\\)" and markdown("1.5") == "1.5"
    assert markdown("1-2") == "1-2" and markdown("-2") == "\\-2" and markdown("** **") == "\\*\\* \\*\\*"


@pytest.mark.parametrize("text", HOSTILE)
def test_html_takes_no_markup_from_texts(text):
    outline = Outline()
    outline.feed(hostile_page(text).html())
    assert not outline.open and set(outline.tags) <= set(_tags("plain"))
    assert all(source.startswith("data:image/") for source in outline.sources)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", hostile_page(text).html())


def _tags(text: str) -> list[str]:
    outline = Outline()
    outline.feed(hostile_page(text).html())
    return outline.tags


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_takes_no_markup_from_texts(text, tmp_path):
    """Without code and without what is escaped, the page has the markup that it has for a plain text."""

    def markup(of: str) -> list[str]:
        plain = hostile_page(of).markdown("pictures")
        plain = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", plain)
        plain = re.sub(r"`[^`\n]+`", "", re.sub(r"\\.", ",", plain))
        plain = re.sub(r"\*\*([^*\n]+)\*\*", r"\1", plain)
        marks = r"(?m)^#+ |^> |^- |^\d+\. |^\[|[<`\[\]*~]|&(?!amp;)\w+;|\]\(|(?<![^\W_])_|_(?![^\W_])"
        bars = [line.count("|") for line in plain.splitlines() if line.startswith("|")]
        return [*re.findall(marks, plain), *bars]

    assert markup(text) == markup("plain" if "`" not in text else "pl`ain")
    page, plain = hostile_page(text).write(tmp_path, "page")
    assert page.is_file() and sorted(file.name for file in tmp_path.iterdir()) == ["page", "page.html", "page.md"]
    names = re.findall(r"(?<!\\)\]\((page/[a-z0-9.-]+)\)", plain.read_text())
    assert len(names) == 2 and all((tmp_path / name).is_file() for name in names)
