"""Documents that are written twice: as one self-contained HTML file, and as Markdown with its pictures beside it.

A Document is a list of blocks. Texts may hold `code` and **bold**; everything else in them is taken literally, in both
forms: captions, names and settings come from anywhere. The HTML has no script and loads nothing: pictures are data
URIs, charts inline SVG, and its colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tmgan.common.files import write_bytes, write_text
from tmgan.common.text import printable

_LONGEST_NAME = 80  # of a file
_CODE, _BOLD = re.compile(r"`[^`]+`"), re.compile(r"\*\*(?!\s+\*)[^*]+\*\*")
_PNG_BYTES = 400_000  # a larger picture is embedded as JPEG

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6470; --line: #d9dde2; --ground: #ffffff;
        --panel: #f5f6f8; --mark: #2a6fb8; --warn: #fff4d6; --warn-line: #e0b84a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a0a8b2; --line: #3a4048; --ground: #15181c; --panel: #1e2227; --mark: #6cb0f0;
          --warn: #332b14; --warn-line: #8a7230; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--ground); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { max-width: 48rem; margin: .5rem 0; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; background: var(--panel); padding: .05em .3em;
       border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .8rem; border-radius: 6px; overflow-x: auto; font-size: .85rem; }
pre code { background: none; padding: 0; overflow-wrap: normal; }
.note { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .5rem .8rem; max-width: 50rem; }
.scroll { overflow-x: auto; margin: .8rem 0 .3rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; min-width: 14rem; }
td small { color: var(--soft); white-space: nowrap; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; display: block; border-radius: 4px; background: #fff; }
figcaption, .caption { color: var(--soft); font-size: .9rem; max-width: 50rem; margin-top: .35rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: .8rem; }
.charts > div { background: var(--panel); border-radius: 6px; padding: .5rem; }
svg { display: block; width: 100%; height: auto; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--mark); }
@media print { body { max-width: none; } details { display: block; } }
"""


@dataclass(frozen=True)
class Cell:
    """A table's cell: a number or words, and below it something in small print, such as an interval."""

    main: str
    small: str = ""

    def html(self) -> str:
        small = f"<br><small>{inline(self.small)}</small>" if self.small else ""
        return inline(self.main) + small

    def markdown(self) -> str:
        return in_cell(self.main + (f" ({self.small})" if self.small else ""))


@dataclass
class Document:
    """Collect blocks in order, then `write`. Methods that add return nothing."""

    title: str
    _html: list[str] = field(default_factory=list)
    _markdown: list[str] = field(default_factory=list)
    _files: dict[str, bytes] = field(default_factory=dict)

    def heading(self, text: str, level: int = 2) -> None:
        self._add(f"<h{level}>{inline(text)}</h{level}>", f"{'#' * level} {markdown(text)}")

    def text(self, text: str) -> None:
        self._add(f"<p>{inline(text)}</p>", markdown(text))

    def note(self, text: str) -> None:
        """What a reader must not overlook."""
        self._add(f'<p class="note">{inline(text)}</p>', f"> **Note.** {markdown(text)}")

    def code(self, text: str, summary: str = "") -> None:
        """Verbatim text; with a summary it is collapsed in the HTML."""
        text = printable(text)
        block = f"<pre><code>{html.escape(text)}</code></pre>"
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        if summary:
            block = f"<details><summary>{inline(summary)}</summary>{block}</details>"
        self._add(block, (f"{markdown(summary)}:\n\n" if summary else "") + f"{fence}\n{text}\n{fence}")

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str = "", wordy: Sequence[int] = ()
    ) -> None:
        """Add a table.

        Args:
            wordy: columns that hold sentences, aligned left.
        """
        assert all(len(row) == len(header) for row in rows), [len(row) for row in rows]
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        head = "".join(f"<th>{inline(name)}</th>" for name in header)
        body = "".join(
            "<tr>" + "".join(f"<td{_class(k in wordy)}>{cell.html()}</td>" for k, cell in enumerate(row)) + "</tr>\n"
            for row in cells
        )
        below = f'<p class="caption">{inline(caption)}</p>' if caption else ""
        lines = ["| " + " | ".join(map(in_cell, header)) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(cell.markdown() for cell in row) + " |" for row in cells]
        whole = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
        self._add(f'<div class="scroll">{whole}</div>{below}', "\n".join(lines) + _below(caption))

    def picture(self, picture: Image.Image, name: str, caption: str) -> None:
        """Add a picture, with its caption as the alternative text.

        Args:
            name: of the file beside the Markdown, without its ending; the alternative text there.
        """
        data, kind = _encode(picture)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        alternative = html.escape(re.sub(r"[`*]", "", printable(caption)), quote=True)
        self._add(
            f'<figure><img src="{uri}" alt="{alternative}" width="{picture.width}" height="{picture.height}">'
            f"<figcaption>{inline(caption)}</figcaption></figure>",
            f"![{markdown(name)}]({self._file(name, kind, data)}){_below(caption)}",
        )

    def charts(self, charts: dict[str, str], caption: str = "") -> None:
        """Add small charts side by side.

        Args:
            charts: SVG by the name of its file.
        """
        below = f'<p class="caption">{inline(caption)}</p>' if caption else ""
        panels = "".join(f"<div>{svg}</div>" for svg in charts.values())
        files = {name: self._file(name, "svg", svg.encode("utf-8", "backslashreplace")) for name, svg in charts.items()}
        images = "\n".join(f"![{markdown(name)}]({file})" for name, file in files.items())
        self._add(f'<div class="charts">{panels}</div>{below}', images + _below(caption))

    def html(self) -> str:
        """The whole page."""
        body = "\n".join(self._html)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(printable(self.title))}</title>\n<style>{_STYLE}</style></head>\n"
            f"<body><h1>{inline(self.title)}</h1>\n{body}\n</body></html>\n"
        )

    def markdown(self, folder: str) -> str:
        """The page as Markdown, with pictures in `folder`."""
        return "\n\n".join([f"# {markdown(self.title)}", *self._markdown]).replace("](\0", f"]({folder}/") + "\n"

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write FOLDER/NAME.html and, as write_markdown does, FOLDER/NAME.md. Returns both paths."""
        plain, page = self.write_markdown(folder, name), folder / f"{name}.html"
        write_text(page, self.html())
        return page, plain

    def write_markdown(self, folder: Path, name: str) -> Path:
        """Write FOLDER/NAME.md with its pictures in FOLDER/NAME/."""
        pictures, plain = folder / name, folder / f"{name}.md"
        pictures.mkdir(parents=True, exist_ok=True)
        for file, data in self._files.items():
            write_bytes(pictures / file, data)
        write_text(plain, self.markdown(name))
        return plain

    def _add(self, block: str, plain: str) -> None:
        self._html.append(block)
        self._markdown.append(plain)

    def _file(self, name: str, kind: str, data: bytes) -> str:
        """Keep a file for the Markdown. In the link returned, \\0 stands for its folder, which is not known yet."""
        ending = {"jpeg": "jpg"}.get(kind, kind)
        names = (f"{slug(name)}{f'-{n}' if n else ''}.{ending}" for n in itertools.count())
        file = next(file for file in names if file not in self._files)
        self._files[file] = data
        return f"\0{file}"


def slug(name: str) -> str:
    """A name as part of a file's name: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_NAME] or "picture"


def inline(text: str) -> str:
    """Escaped HTML of a text with `code` and **bold**."""
    markup = html.escape(printable(text), quote=False)
    markup = _CODE.sub(lambda code: f"<code>{code[0][1:-1]}</code>", markup)
    return _BOLD.sub(lambda bold: f"<strong>{bold[0][2:-2]}</strong>", markup)


def markdown(text: str, begins: bool = True) -> str:
    """Markdown of a text with `code` and **bold**, on one line; nothing else in it is markup.

    Args:
        begins: it begins a block, where some characters make a list, a heading or a quote.
    """
    parts = re.split(f"({_CODE.pattern}|{_BOLD.pattern})", re.sub(r"\s*\n\s*", " ", printable(text)).strip())
    return "".join(_part(part, begins and place == 0) for place, part in enumerate(parts))


def in_cell(text: str) -> str:
    """The same in a table, where a bar would end the cell, even one in code."""
    return markdown(text, begins=False).replace("|", "\\|")


def _part(part: str, begins: bool) -> str:
    """`code` or **bold** as it is, or text without markup."""
    if _CODE.fullmatch(part):
        return part
    return f"**{_literal(part[2:-2], False)}**" if _BOLD.fullmatch(part) else _literal(part, begins)


def _literal(text: str, begins: bool) -> str:
    """Text without markup; a mark of emphasis stays as it is between spaces, and an underscore within a word."""
    text = re.sub(r"([\\`\[\]<>])", r"\\\1", text)
    text = re.sub(r"(?<!\s)[*~]|[*~](?!\s)|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    return re.sub(r"^(?:([#+=-])|(\d+)([.)](?= |$)))", r"\2\\\1\3", text) if begins else text


def _below(caption: str) -> str:
    return f"\n\n{markdown(caption)}" if caption else ""


def _class(wordy: bool) -> str:
    return ' class="text"' if wordy else ""


def _encode(picture: Image.Image) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    if buffer.tell() <= _PNG_BYTES:
        return buffer.getvalue(), "png"
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=88)
    return buffer.getvalue(), "jpeg"
