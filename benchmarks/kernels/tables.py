"""Tables of kernel results: what `pytest benchmarks/` prints, and what report.py writes into pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import schema
from benchmarks.markdown import table

SHORT = {"float32": "fp32", "bfloat16": "bf16", "uint8": "uint8"}
HEADLINE_BATCH = 64
OURS = "triton"


class Rows:
    """The measured rows of a document, grouped into lines: one line per call, with a row per provider."""

    def __init__(self, document: dict) -> None:
        self.document = document
        self.lines: dict[tuple, dict[str, dict]] = {}
        for row in document["rows"]:
            self.lines.setdefault(schema.identity({**row, "provider": ""}), {})[row["provider"]] = row

    def select(self, **values: object) -> list[dict[str, dict]]:
        """The lines whose rows have these values, in the order of measurement."""
        return [
            line
            for line in self.lines.values()
            if all(next(iter(line.values()))[name] == value for name, value in values.items())
        ]

    def failures(self) -> list[dict]:
        return [row for row in (*self.document["rows"], *self.document["host"]) if "error" in row]


def of(line: dict[str, dict], provider: str, what: str = "microseconds") -> float | None:
    row = line.get(provider, {})
    return row.get(what)


def rival(line: dict[str, dict]) -> tuple[str, float] | None:
    """The fastest provider that is neither ours nor the definition, and its time."""
    times = [
        (row["microseconds"], name)
        for name, row in line.items()
        if name not in (OURS, "eager") and "microseconds" in row
    ]
    return (min(times)[1], min(times)[0]) if times else None


def name_of(row: dict) -> str:
    """The operation with its options, written as a call."""
    options = ", ".join(f"{name}={value!r}" for name, value in row["options"].items())
    return f"{row['operation']}({options})" if options else row["operation"]


def size_of(row: dict) -> str:
    return f"{row['batch']}x{row['channels']}x{row['height']}x{row['width']}"


def headline(rows: Rows, dtype: str, which: str) -> list[tuple[str, dict[str, dict]]]:
    """The main size of every operation, with its first options; 8-bit input goes with float32, its output."""
    lines: dict[str, dict[str, dict]] = {}
    for line in rows.select(batch=HEADLINE_BATCH, height=256):
        row = next(iter(line.values()))
        right_type = row["dtype"] == dtype or (row["dtype"] == "uint8" and dtype == "float32")
        if row["pass"] == which and right_type and main_layout(row):
            lines.setdefault(row["operation"], line)
    return list(lines.items())


def main_layout(row: dict) -> bool:
    """Those operations that a training step runs on channels_last tensors are shown so, the others planar."""
    return row["layout"] == ("nhwc" if row["operation"] in ("gather_crop", "instance_norm_glu") else "nchw")


# ------------------------------------------------------------------ terminal
def plain(document: dict) -> Iterator[str]:
    """Lines of text. Of a GPU run only the headline batch: the whole of it is hundreds of lines."""
    rows = Rows(document)
    lines = [
        line
        for line in rows.lines.values()
        if not schema.on_gpu(document) or next(iter(line.values()))["batch"] == HEADLINE_BATCH
    ]
    providers = [name for name in schema.PROVIDERS if any(name in line for line in lines)]
    yield f"{'':66}" + "".join(f"{name:>16}" for name in providers)
    for line in lines:
        row = next(iter(line.values()))
        what = f"{name_of(row)} {row['pass']} {size_of(row)} {SHORT[row['dtype']]} {row['layout']}"
        yield f"{what:66}" + "".join(f"{_cell(line.get(name)):>16}" for name in providers)
    for row in rows.failures():
        yield f"failed: {row['operation']} {row['pass']} {row['provider']}: {row['error']}"
    if document["not_measured"]:
        yield f"{len(document['not_measured'])} rows were not measured: {document['not_measured'][0]['reason']}"


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    if "error" in row:
        return "failed"
    fraction = "" if row["copy_fraction"] is None else f" {row['copy_fraction']:4.0%}"
    return f"{row['microseconds']:.1f}{fraction}"


# ------------------------------------------------------------------ markdown
def gpu_sections(document: dict) -> Iterator[str]:
    """Markdown paragraphs for one GPU: the headline batch, the rest folded, then what is slow, failed or missing."""
    rows = Rows(document)
    yield (
        f"A plain copy moves {document['copy']['gigabytes_per_second']:,.0f} GB/s there, counting bytes read and "
        "written. *Of copy* is the time that the bytes an operation cannot avoid would take at that speed, over the "
        "time it took; the last columns are what the eager definition, and the fastest of all others, take in "
        "multiples of ours. Times are medians of CUDA graph replays over inputs that are not in the cache. `both` "
        "is forward and backward; `drawn` is a kernel size for each image, 5, 7 or 9."
    )
    batches = sorted({row["batch"] for row in document["rows"]}, key=lambda batch: (batch != HEADLINE_BATCH, batch))
    for batch in batches:
        lines = [
            line
            for line in rows.select(batch=batch, height=256)
            for row in [next(iter(line.values()))]
            if row["operation"] == "gather_crop" or (row["channels"] <= 3 and row["layout"] == "nchw")
        ]
        if lines:
            title = f"{batch} images of 256x256, NCHW (`gather_crop`: 8-bit tiles in, fp32 NHWC out)"
            yield from _fold(title, _comparison(lines), batch != HEADLINE_BATCH)
    for layout in ("nhwc", "nchw"):
        stages = rows.select(operation="instance_norm_glu", layout=layout)
        if stages:
            title = f"`instance_norm_glu` at the stages of the generator, {layout.upper()}"
            yield from _fold(title, _comparison(stages, sizes=True), layout == "nchw")
    yield from _layouts(rows)
    yield from _host(document)
    slower = sorted(
        {
            f"`{name_of(line[OURS])}` {line[OURS]['pass']}"
            for line in rows.lines.values()
            if (ours := of(line, OURS)) and any((of(line, name) or ours) < ours for name in line)
        }
    )
    if slower:
        yield f"Somewhere slower than another implementation: {', '.join(slower)}."
    yield from _absent(document, rows)


def _fold(title: str, content: str, fold: bool) -> Iterator[str]:
    if fold:
        yield f"<details><summary>{title}</summary>"
        yield content
        yield "</details>"
    else:
        yield f"**{title}**"
        yield content


def _comparison(lines: Sequence[dict[str, dict]], sizes: bool = False) -> str:
    """A table of our times; the two floating-point types side by side, 8-bit inputs with the first."""
    body: dict[str, list[str]] = {}
    for line in lines:
        row = next(iter(line.values()))
        what = f"`{name_of(row)}` {row['pass']}" + (f" {size_of(row)}" if sizes else "")
        column = 4 if row["dtype"] == "bfloat16" else 0
        body.setdefault(what, [""] * 8)[column : column + 4] = against(line)
    if not any(cells[4] for cells in body.values()):
        body = {what: cells[:4] for what, cells in body.items()}
    head = [
        "",
        *(f"{dtype}{name}" for dtype in ("fp32 ", "bf16 ") for name in ("µs", "of copy", "eager", "fastest other")),
    ]
    return table(head[: 1 + max(map(len, body.values()))], [(what, *cells) for what, cells in body.items()])


def against(line: dict[str, dict]) -> list[str]:
    """Our time, its share of the copy bandwidth, and what eager and the fastest of all others take in ours."""
    ours, eager, best = of(line, OURS), of(line, "eager"), rival(line)
    if ours is None:
        return ["failed" if OURS in line else "", "", "", ""]
    return [
        f"{ours:.1f}",
        f"{line[OURS]['copy_fraction']:.0%}",
        f"{eager / ours:.1f}x" if eager else "failed" if "eager" in line else "",
        f"{best[1] / ours:.2f}x {best[0]}" if best else "",
    ]


def _layouts(rows: Rows) -> Iterator[str]:
    body = []
    for line in rows.select(layout="nhwc", batch=HEADLINE_BATCH, height=256):
        row = line.get(OURS)
        if row is None or "error" in row or row["operation"] == "gather_crop":
            continue
        other = rows.lines.get(schema.identity({**row, "layout": "nchw", "provider": ""}), {})
        if (planar := of(other, OURS)) is not None:
            body.append(
                (f"`{name_of(row)}` {row['pass']}", SHORT[row["dtype"]], f"{planar:.1f}", f"{row['microseconds']:.1f}")
            )
    if body:
        yield from _fold(
            f"NCHW and NHWC, {HEADLINE_BATCH} images, microseconds", table(("", "type", "NCHW", "NHWC"), body), True
        )


def _host(document: dict) -> Iterator[str]:
    calls: dict[tuple[str, str], dict[str, float]] = {}
    for row in document["host"]:
        if "error" not in row:
            calls.setdefault((row["operation"], row["pass"]), {})[row["provider"]] = row["microseconds"]
    if calls:
        providers = [name for name in schema.PROVIDERS if any(name in times for times in calls.values())]
        body = [
            (f"`{operation}` {which}", *(f"{times[name]:.1f}" if name in times else "" for name in providers))
            for (operation, which), times in calls.items()
        ]
        yield from _fold(
            "What a call costs the host, microseconds, on inputs of 8x8 pixels", table(("", *providers), body), True
        )


def _absent(document: dict, rows: Rows) -> Iterator[str]:
    failures = rows.failures()
    if failures:
        yield "Failed:"
        reasons: dict[tuple[str, str, str], int] = {}
        for row in failures:
            reason = row["operation"], row["provider"], row["error"]
            reasons[reason] = reasons.get(reason, 0) + 1
        yield "\n".join(
            f"- `{operation}` by {provider}, {count} {'rows' if count > 1 else 'row'}: {error}"
            for (operation, provider, error), count in reasons.items()
        )
    if document["not_measured"]:
        names = sorted({f"{row['operation']} by {row['provider']}" for row in document["not_measured"]})
        yield f"Not measured, {document['not_measured'][0]['reason']}: {', '.join(names)}."


def cpu_sections(document: dict) -> Iterator[str]:
    """Markdown paragraphs for a run without a GPU: two implementations on inputs that fit in the caches."""
    rows = Rows(document)
    providers = [name for name in schema.PROVIDERS if any(name in line for line in rows.lines.values())]
    spread = sorted(row["iqr_microseconds"] / row["microseconds"] for row in document["rows"] if "error" not in row)
    yield (
        "Microseconds of processor time per call, in one thread, on inputs of a few thousand pixels, the eager "
        "definitions against `torch.compile` and what else there is. This shows that the harness runs and what "
        "compilation gives on a processor; it says nothing about the kernels, which run on GPUs only. How far to "
        f"trust a number: half of the interquartile ranges are below {spread[len(spread) // 2]:.2f} of the median, "
        f"the widest is {spread[-1]:.2f}."
    )
    body = []
    for line in rows.lines.values():
        row = next(iter(line.values()))
        times = [
            f"{time:.0f}" if (time := of(line, name)) is not None else "failed" if name in line else ""
            for name in providers
        ]
        body.append((f"`{name_of(row)}` {row['pass']}", size_of(row), *times))
    yield table(("", "size", *providers), body)
    yield from _absent(document, rows)
