"""Turns what the scripts left behind into the documents of benchmarks/results.

    python -m benchmarks.gpu.collect OUT... [--results DIR]

OUT: folders with .jsonl files. Of a script that ran several times, runs of one commit and the same kernels' sources are
put together, as its tasks may be run in turn: of a row that several have, the last that was measured counts. Of several
commits, or where none is known, the last run counts. Each card has its own documents. Rows that failed or are missing
are listed too. A dry run is not a measurement: it is refused without --dry.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import schema
from benchmarks.gpu import kernels, rest, step
from benchmarks.gpu.journal import describe_error, missing, rows, runs
from benchmarks.gpu.rewrites import BASE, OTHER_BATCHES
from benchmarks.gpu.supervisor import Options
from benchmarks.kernels import collector
from benchmarks.loaders import test_loaders
from benchmarks.step import measure as measure_steps
from benchmarks.step import schema as schema_step
from benchmarks.step import training as schema_training

RESULTS = Path(__file__).parents[1] / "results"


def journals(folders: list[Path]) -> dict[str, dict[str, list[dict]]]:
    """The newest run of each script with those of the same sources right before it, by card."""
    scripts_by_card: dict[str, dict[str, list[dict]]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl")):
            every = runs(path)
            for lines in [run for run in every if not run[0]["dry"]] or every:  # dry was the rehearsal of what follows
                scripts = scripts_by_card.setdefault(lines[0]["gpu"], {})
                before = scripts.get(path.stem, [])
                scripts[path.stem] = before + lines if before and _same_sources(before[0], lines[0]) else lines
    return scripts_by_card


def _same_sources(*stamps: dict) -> bool:
    """Whether runs measured the same. Older stamps have no "sources"."""
    first, second = ((stamp["commit"], stamp.get("sources")) for stamp in stamps)
    return first == second and not first[0].startswith("unknown")


def settings_of(lines: list[dict], field: str) -> dict | None:
    """The first line of settings that has `field`."""
    return next((line for line in lines if line["kind"] == "settings" and field in line), None)


def pick(row: dict, *fields: dict) -> dict:
    return {name: row[name] for kinds in fields for name in kinds if name in row}


# -------------------------------------------------------------------------- the step
def steps(scripts: dict[str, list[dict]]) -> dict | None:
    """Engines and parts, with the published step and the starts of 4-rest.sh; and whole steps at every batch."""
    lines = scripts.get("1-step", []) + scripts.get("4-rest", []) + scripts.get("2-rewrites", [])
    abouts = [line for line in lines if line["kind"] == "settings" and "peak_gflops" in line]
    if not abouts:
        return None
    about = next((line for line in abouts if line["settings"]["batch"] == step.BATCH), abouts[0])
    batch, peak = about["settings"]["batch"], about["peak_gflops"]
    measurements = [row for row in rows(lines).values() if "part" in row and row["batch"] == batch]
    engine_rows = [pick(row, schema_step.ROW, {"peak_bytes": int}) for row in measurements]
    for row in engine_rows:
        row["share_of_peak"] = schema_step.share(row, batch, peak)  # each process measured its own peak
    starts = [pick(row, schema_step.START) for row in rows(lines).values() if "state" in row]
    components = rows(lines).get(f"compiled batch {batch} profile", {}).get("components", [])
    parts = {"rows": engine_rows, "starts": starts, "batches": at_batches(lines), "components": components}
    return _step_document(about, lines, **parts)


def at_batches(lines: list[dict]) -> list[dict]:
    """Whole steps by engine and batch: of 1-step.sh, else of 4-rest.sh, else of 2-rewrites.sh, where nothing but the
    engine was changed."""
    found: dict[tuple[str, int], dict] = {}
    unchanged = {BASE, *step.ENGINES}
    for row in rows(lines).values():
        whole = row.get("part") == "step" or (row.get("change") in unchanged and not row["row"].endswith("again"))
        if whole and "seconds" in row:
            values = pick(row, schema_step.AT_BATCH, {"peak_bytes": int})
            found.setdefault((row["engine"], row["batch"]), values)
    return list(found.values())


def ablations(scripts: dict[str, list[dict]]) -> Iterator[dict]:
    """One document per batch size. Without a base there is nothing to compare with, and none is made."""
    lines = scripts.get("2-rewrites", [])
    rows_by_name, absent = rows(lines), missing(lines)
    # Each once, of however many runs the lines are.
    plan = list(dict.fromkeys(name for line in lines if line["kind"] == "planned" for name in line["rows"]))
    abouts = {line["settings"]["batch"]: line for line in lines if line["kind"] == "settings"}
    for batch, about in abouts.items():
        changes = []
        for name in plan:
            change, _, size = name.partition(" batch ")
            if size.split()[0] != str(batch) or (change, batch) in OTHER_BATCHES:
                continue
            row = rows_by_name.get(name, {"reason": absent.get(name)})
            values = (
                {"error": row["error"]}
                if "error" in row
                else {"reason": row["reason"]}
                if "reason" in row
                else pick(row, schema_step.TIMES, {"images_per_second": float})
            )
            changes.append({"change": f"{change}, again at the end" if size.endswith("again") else change, **values})
        base_row = rows_by_name[f"{BASE} batch {batch}"]
        base = pick(base_row, schema_step.TIMES, {"images_per_second": float, "peak_bytes": int})
        base |= about["base"] | {"part": "step"}
        base["share_of_peak"] = schema_step.share(base, batch, about["peak_gflops"])
        yield _step_document(about, lines, rows=[base], ablation=changes)


def _step_document(about: dict, lines: list[dict], **parts: list) -> dict:
    return {
        "schema": schema_step.SCHEMA,
        "machine": about["machine"],
        "settings": about["settings"],
        "peak_gflops": about["peak_gflops"],
        "seconds": _seconds(lines),
        **{"rows": [], "starts": [], "ablation": [], **parts},
    }


def _seconds(lines: list[dict]) -> float:
    """Seconds that the scripts took; for one that was killed, those that it was given."""
    seconds = {line["run"]: line["seconds"] for line in lines if line["kind"] in ("begin", "end")}
    return float(sum(seconds.values()))


# ----------------------------------------------------------------------- the kernels
def keys(options: Options) -> dict[str, dict]:
    """The key fields of each row, by its name."""
    plan = kernels.plan_rows(options) + rest.plan_rows(options, ("best-eager", "kornia", "compile", "compile-max"))
    kernel_keys = {
        kernels.name_of(case, provider, which): {**case.key(), "pass": which, "provider": provider}
        for case, provider, which in plan
    }
    host = kernels.plan_host(options)
    return kernel_keys | {
        kernels.host_name(case, provider, which): {"operation": case.operation, "pass": which, "provider": provider}
        for case, provider, which in host
    }


def kernel_document(scripts: dict[str, list[dict]]) -> dict | None:
    """Ours of 3-kernels.sh, and the others of 4-rest.sh."""
    lines = scripts.get("4-rest", []) + scripts.get("3-kernels", [])  # of two measured copies the latter counts
    about, rows_by_name = settings_of(lines, "machine"), rows(lines)
    keys_by_name = keys(Options(Path(), 0, lines[0]["dry"], not lines[0]["dry"])) if lines else {}
    copy = pick(rows_by_name.get("copy", {}), schema.COPY) or None
    kernel_rows, host = [], []
    for name, row in rows_by_name.items():
        if name not in keys_by_name or "reason" in row:
            continue
        place = host if name.startswith("host ") else kernel_rows
        if "error" in row:
            place.append({**keys_by_name[name], "error": row["error"]})
        elif place is host:
            host.append({**keys_by_name[name], **pick(row, schema.HOST)})
        else:
            place.append(
                {
                    **keys_by_name[name],
                    **pick(row, schema.MEASURED, {"peak_bytes": int}),
                    **schema.derive(row["microseconds"], row["bytes"], copy),
                }
            )
    if about is None or not kernel_rows or (copy is None and about["machine"]["gpu"] != "not used"):
        return None
    reasons = missing(lines) | {name: row["reason"] for name, row in rows_by_name.items() if "reason" in row}
    absent = [
        {**keys_by_name[name], "reason": reason}
        for name, reason in reasons.items()
        if name in keys_by_name and not name.startswith("host ")
    ]
    return {
        "schema": schema.SCHEMA,
        "machine": about["machine"],
        "copy": copy,
        "seconds": _seconds(lines),
        "rows": kernel_rows,
        "host": host,
        "not_measured": absent,
    }


def training(scripts: dict[str, list[dict]]) -> dict | None:
    """The training of 5-training.sh."""
    lines = scripts.get("5-training", [])
    about, rows_by_name = settings_of(lines, "settings"), rows(lines)
    if about is None:
        return None
    absent = missing(lines) | {name: row["error"] for name, row in rows_by_name.items() if "error" in row}
    measured = {name: row for name, row in rows_by_name.items() if "error" not in row}
    values = {
        name: pick(measured[name], fields, {schema_training.PSNR: float})
        for name, fields in schema_training.MEASURED.items()
        if name in measured
    }
    return {
        "schema": schema_training.SCHEMA,
        "kind": "training",
        "machine": about["machine"],
        "settings": about["settings"],
        "measured": values,
        "not_measured": {name: absent[name] for name in schema_training.MEASURED if name in absent},
        "seconds": _seconds(lines),
    }


def loader_document(scripts: dict[str, list[dict]]) -> dict | None:
    lines = scripts.get("3-kernels", []) + scripts.get("4-rest", [])
    about = settings_of(lines, "data")
    loaders = {row["loader"]: pick(row, schema.LOADER_ROW) for row in rows(lines).values() if "loader" in row}
    if about is None or not loaders:
        return None
    return {
        "schema": schema.SCHEMA,
        "kind": "loaders",
        "machine": about["machine"],
        "data": about["data"],
        "rows": list(loaders.values()),
        "seconds": _seconds(lines),
    }


def _one(make: Callable[[dict], dict | None]) -> Callable[[dict], list[dict | None]]:
    @functools.wraps(make)
    def documents(scripts: dict[str, list[dict]]) -> list[dict | None]:
        return [make(scripts)]

    return documents


def _write_steps(kind: str) -> Callable[[dict, Path], Path]:
    return lambda document, results: measure_steps.write(document, results / measure_steps.name(document, kind))


# What makes the documents of a kind, and what writes one of them into a folder.
WRITERS: tuple[tuple[Callable, Callable[[dict, Path], Path]], ...] = (
    (_one(steps), _write_steps("steps")),
    (ablations, _write_steps("steps-ablation")),
    (_one(kernel_document), collector.write),
    (_one(loader_document), test_loaders.write),
    (_one(training), schema_training.write),
)


def collect(folders: list[Path], results: Path, dry: bool) -> list[Path]:
    """Write every document that can be made.

    Returns:
        The paths of the documents.

    Raises:
        ValueError: for a dry run that was not asked for, and after all else for documents that could not be made.
    """
    results.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    failures: list[str] = []
    for scripts in journals(folders).values():
        if any(lines[0]["dry"] for lines in scripts.values()) and not dry:
            raise ValueError("a dry run measures nothing: its rows do not belong in benchmarks/results")
        for make, write in WRITERS:
            try:
                paths += [write(document, results) for document in make(scripts) if document is not None]
            except Exception as error:  # what one cannot be made of must not cost the others
                failures.append(f"{make.__name__}: {describe_error(error)}")
        if pictures := [folder / "5-training.png" for folder in folders if (folder / "5-training.png").exists()]:
            for path in paths:
                if path.name.startswith("training-"):
                    shutil.copyfile(pictures[-1], path.with_suffix(".png"))
    if failures:
        raise ValueError("\n".join([*map(str, paths), "these could not be made:", *failures]))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.collect", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--dry", action="store_true", help="accept dry runs too, but not into benchmarks/results")
    arguments = parser.parse_args()
    for folder in arguments.out:
        if not folder.is_dir():
            parser.error(f"{folder} is no folder")
    if not any(True for folder in arguments.out for _ in folder.glob("*.jsonl")):
        parser.error(f"{', '.join(map(str, arguments.out))} holds no .jsonl file: no script has run into it")
    try:
        print(*collect(arguments.out, arguments.results, arguments.dry and arguments.results != RESULTS), sep="\n")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
