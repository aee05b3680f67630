"""Hold every fused operation against its definition on this GPU, race the implementations, and remember the verdict.

    python -m tmgan_kernels.verify [--device N]

Compared are forward and backward, float32 and bfloat16, NCHW and NHWC, whole, odd and wide shapes, by Triton and, where
built, by CUDA C++, each twice for equal bits. Each implementation is compared in a process of its own: one that crashes
or hangs is a finding and stops no other. About 240 kernels are compiled, as many at once as there are cores (12 at
most).

`impl="auto"` then takes, operation by operation, the fastest implementation that agreed; what did not agree is replaced
by the eager definition, with a warning. The verdict holds for this kind of card, these versions and these sources. It
lies in TMGAN_CACHE, else XDG_CACHE_HOME/tmgan, else ~/.cache/tmgan; rows on the way there, which `auto` does not read,
in a .rows.jsonl file beside it. Verdicts for some cards come with the package: see verdicts/README.md.

Exit status: 0 all agree; 1 something does not, which the table names; 2 nothing can be verified here; 130 interrupted,
and then there is no new verdict.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from tmgan_kernels import _children, _native, _parity, _triton, _verdict
from tmgan_kernels._parity import CHECKS

LIMIT = 300.0  # seconds that the parity, or the race, of one implementation may take before it counts as hung
REPEATS = 5
FASTEST = 2.0e9  # cycles a second: a GPU whose clock is slower sleeps longer, which costs time and nothing else
LONGEST = 0.05  # seconds that it sleeps at most before a turn
GIBIBYTE = 2**30  # of the GPU's memory, for a child: its context and its tensors


class CannotVerify(Exception):
    """There is nothing here to be verified; the message says why, and what to do."""


# ---------------------------------------------------------------------- race
def microseconds(functions: dict[str, Callable]) -> dict[str, float]:
    """Time of one call of each on the current GPU: medians over interleaved turns of about 3 ms, after a warm-up.

    The host's time does not count: to launch an operation on a few images takes it longer than the GPU needs, but a
    step that is compiled, captured or large does not wait for it. So the GPU sleeps until it has a turn's calls in its
    queue.
    """
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def timed(function: Callable, calls: int, head_start: float = 0.0) -> tuple[float, float]:
        """Microseconds a call on the GPU, and seconds a call on the host, which gets so many seconds' head start."""
        torch.cuda._sleep(int(head_start * FASTEST))
        start.record()
        begun = time.perf_counter()
        for _ in range(calls):
            function()
        taken = time.perf_counter() - begun
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / calls, taken / calls

    turns: dict[str, tuple[int, float]] = {}
    for name, function in functions.items():
        timed(function, 2)
        gpu, host = timed(function, 3)
        calls = max(1, min(50, int(3000 / max(gpu, 1.0))))
        turns[name] = calls, min(1.5 * host * calls, LONGEST)
    times = [{name: timed(function, *turns[name])[0] for name, function in functions.items()} for _ in range(REPEATS)]
    return {name: statistics.median(each[name] for each in times) for name in functions}


def race(
    operation: str, impls: list[str], device: torch.device, clock: Callable = microseconds, shapes: tuple | None = None
) -> Iterator[dict]:
    """A row for each size, type and layout: microseconds of forward and backward by each of impls and by eager.

    The first variant alone, in the layouts that training uses: float32 as NCHW, bfloat16 as NHWC.
    """
    check = CHECKS[operation]
    options = check.variants[0]
    for shape in shapes or check.raced:
        for dtype, layout in _parity.PAIRS[: len(check.dtypes)]:
            inputs = _parity.prepare(operation, shape, dtype, layout, device)
            incoming = (
                [torch.empty_like(y).fill_(0.5) for y in _parity.run(operation, inputs, options, "eager")]
                if check.differentiable
                else []
            )

            def call(impl, inputs=inputs, incoming=incoming):
                if incoming:
                    _parity.gradients(operation, inputs, options, impl, incoming)
                else:
                    _parity.run(operation, inputs, options, impl)

            times = clock({impl: lambda impl=impl, call=call: call(impl) for impl in ("eager", *impls)})
            yield {
                "operation": operation,
                "shape": list(shape),
                "dtype": dtype,
                "layout": layout,
                "microseconds": times,
            }


# ------------------------------------------------------------ child processes
def check_on_gpu(operation: str, impl: str, index: int) -> Iterator[dict | _parity.Unusable]:
    torch.cuda.set_device(index)
    try:
        yield from _parity.check(operation, impl, torch.device("cuda", index))
    except _parity.Unusable as error:  # travels like a row; else it would only end this process
        yield _parity.Unusable(str(error))


def race_on_gpu(operation: str, impls: tuple[str, ...], index: int) -> Iterator[dict]:
    torch.cuda.set_device(index)
    yield from race(operation, list(impls), torch.device("cuda", index))


def on_gpu(function: Callable, jobs: list[tuple], index: int, at_once: int) -> Iterator[tuple[tuple, object]]:
    """`_children.run` for jobs on one GPU; jobs come back as they were given.

    Raises CannotVerify where it is the GPU that does not work, or has no memory left.
    """
    at_once = max(1, min(at_once, torch.cuda.mem_get_info(index)[0] // GIBIBYTE))
    for job, row in _children.run(function, [(*job, index) for job in jobs], at_once, LIMIT):
        if isinstance(row, _parity.Unusable):
            raise CannotVerify(f"{row}; end what else uses the GPU, or see what nvidia-smi says of it")
        yield job[:-1], row


# ------------------------------------------------------------------- verdict
class Findings:
    """Collects the rows, and puts each into a file the moment that it is known."""

    def __init__(self, key: dict[str, str]) -> None:
        self.key = key
        self.rows: list[dict] = []
        self.races: list[dict] = []
        self.path = _verdict.path_of(key).with_suffix(".rows.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "w")  # noqa: SIM115 (open until the last row)
        self._append(key)

    def _append(self, row: dict) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def add(self, row: dict) -> None:
        (self.races if "microseconds" in row else self.rows).append(row)
        self._append(row)

    def parity(self) -> dict[str, dict[str, str | None]]:
        """operation -> implementation -> None, or what is wrong and where."""
        found: dict[str, dict[str, str | None]] = {}
        for row in self.rows:
            problems = found.setdefault(row["operation"], {})
            if row["problem"] is not None and problems.get(row["impl"]) is None:
                where = f" at {'x'.join(map(str, row['shape']))} {row['dtype']} {row['layout']}" if row["shape"] else ""
                problems[row["impl"]] = row["problem"] + where
            problems.setdefault(row["impl"], None)
        return found

    def verdict(self) -> dict:
        return {
            "format": _verdict.FORMAT,
            "fingerprint": self.key,
            "library": _verdict.library_digest(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "parity": self.parity(),
            "race": self.races,
            "rows": self.rows,
        }

    def close(self) -> None:
        self.file.close()


def failed(operation: str, impl: str, problem: str) -> dict:
    """A row for what ended before it could say anything itself."""
    return {
        "operation": operation,
        "impl": impl,
        "shape": [],
        "dtype": "",
        "layout": "",
        "options": {},
        "share": None,
        "problem": problem,
    }


def gather(key: dict[str, str], operations: list[str], run: Callable, say: Callable = print) -> dict:
    """The parity of everything that can run, then the races of what agreed: written as a verdict, and returned.

    run(function, jobs, at_once) gives (job, row) pairs, as `on_gpu` does.
    """
    jobs = [(name, impl) for name in operations for impl in _parity.implementations(name)]
    findings, begun = Findings(key), time.monotonic()
    try:
        say(f"parity: {len(jobs)} implementations of {len(operations)} operations")
        for (name, impl), row in run(check_on_gpu, jobs, _children.workers()):
            if isinstance(row, _children.Ended):
                if row.problem is not None:
                    findings.add(failed(name, impl, row.problem))
                problem = findings.parity().get(name, {}).get(impl, "nothing was compared")
                say(f"  {time.monotonic() - begun:5.0f} s  {name} {impl}: {'agrees' if problem is None else problem}")
            else:
                findings.add(row)
        parity = findings.parity()
        for name, impl in jobs:  # no row, no agreement
            if impl not in parity.get(name, {}):
                findings.add(failed(name, impl, "nothing was compared"))
        parity = findings.parity()
        passed = [
            (name, tuple(impl for impl, problem in parity[name].items() if problem is None))
            for name in operations
            if name in parity
        ]
        say("race: one after the other, so that nothing else uses the GPU")
        for (name, _), row in run(race_on_gpu, [job for job in passed if job[1]], 1):
            if not isinstance(row, _children.Ended):
                findings.add(row)
            elif row.problem is not None:
                say(f"  {name} has no times: {row.problem}")
        verdict = findings.verdict()
        _verdict.write(verdict)
    finally:
        findings.close()
    findings.path.unlink(missing_ok=True)
    _verdict.forget()
    return verdict


# ------------------------------------------------------------------- reports
def table(verdict: dict) -> list[str]:
    """A line for each operation: what agrees, its times where the race was largest, and what `auto` takes."""
    lines = [f"{'operation':<22}{'triton':<10}{'cuda':<10}{'eager us':>10}{'triton us':>11}{'cuda us':>10}  auto"]
    for name, found in verdict["parity"].items():
        said = [
            "-" if impl not in found else "agrees" if found[impl] is None else "FAILS"
            for impl in _verdict.IMPLEMENTATIONS
        ]
        rows = [row for row in verdict["race"] if row["operation"] == name]
        times = rows[-1]["microseconds"] if rows else {}
        shown = [f"{times[impl]:.1f}" if impl in times else "-" for impl in ("eager", "triton", "cuda")]
        lines.append(
            f"{name:<22}{said[0]:<10}{said[1]:<10}{shown[0]:>10}{shown[1]:>11}{shown[2]:>10}  "
            f"{_verdict.ranking(verdict, name)[0]}"
        )
    return lines


def failures(verdict: dict) -> list[str]:
    return [
        f"{name} {impl}: {problem}"
        for name, found in verdict["parity"].items()
        for impl, problem in found.items()
        if problem is not None
    ]


def report(index: int | None = None) -> list[str]:
    """What `auto` knows about a GPU (None: the current one), in lines for a person."""
    key = _verdict.fingerprint(index)
    if key is None:
        return ["fused kernels: no NVIDIA GPU here, so impl='auto' is the eager definition"]
    card = f"{key['card']} ({key['capability']})"
    verdict = _verdict.read(key)
    if verdict is None:
        before = " (there is a verdict for other versions or sources)" if _verdict.others_of(key) else ""
        return [
            f"fused kernels: not verified on this {card}{before}; run `{_verdict.COMMAND}`",
            "  until then impl='auto' takes the Triton kernels, compiled and interpreted in tests, and no CUDA C++",
        ]
    taken: dict[str, list[str]] = {}
    for name in verdict["parity"]:
        taken.setdefault(_verdict.ranking(verdict, name)[0], []).append(name)
    found = verdict["fingerprint"]
    lines = [
        f"fused kernels: verified on {card}, {verdict['finished']}, torch {found['torch']}, Triton {found['triton']}, "
        f"driver {found['driver']}"
    ]
    if _verdict.is_shipped(verdict, key):
        lines.append(f"  by tmgan's authors, on another machine; `{_verdict.COMMAND}` does it on this one")
    lines += [f"  {impl}: {', '.join(sorted(taken[impl]))}" for impl in ("triton", "cuda", "eager") if impl in taken]
    return lines + [f"  failed: {line}" for line in failures(verdict)]


# ------------------------------------------------------------------- command
def require_gpu(index: int) -> dict[str, str]:
    """The fingerprint of the GPU to verify. Raises CannotVerify with the reason and the cure."""
    if torch.version.cuda is None:
        raise CannotVerify("this torch was built without CUDA; install a build for your GPU: pytorch.org/get-started")
    if not torch.cuda.is_available():
        raise CannotVerify(
            "torch finds no NVIDIA GPU; does nvidia-smi show one, and is CUDA_VISIBLE_DEVICES right? On "
            "a CPU the eager definitions run, and nothing needs to be verified"
        )
    if not 0 <= index < torch.cuda.device_count():
        raise CannotVerify(f"--device is {index}; there are GPUs 0 to {torch.cuda.device_count() - 1}")
    if _triton.INTERPRETED:
        raise CannotVerify("TRITON_INTERPRET=1 is set, and would have the interpreter verified; unset it")
    if _triton.triton is None and _native.missing():
        raise CannotVerify(
            "neither Triton (pip install triton) nor the CUDA C++ kernels "
            f"(`{_native.BUILD}`) are installed; the eager definitions need no verdict"
        )
    key = _verdict.fingerprint(index)
    assert key is not None  # there is a GPU
    return key


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=_verdict.COMMAND,
        description="Verify the fused kernels on this GPU.",
        epilog="Status: 0 all agree, 1 something does not, 2 cannot run here.",
    )
    parser.add_argument("--device", type=int, default=0, help="which GPU, if there are several")
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    try:
        key = require_gpu(given.device)
        _verdict.folder().mkdir(parents=True, exist_ok=True)
        print(
            ", ".join(
                f"{name} {value}" if name in ("torch", "triton", "cuda", "driver") else value
                for name, value in key.items()
                if name != "sources"
            )
        )
        verdict = gather(
            key, list(CHECKS), lambda function, jobs, at_once: on_gpu(function, jobs, given.device, at_once)
        )
    except CannotVerify as error:
        print(f"cannot verify: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"cannot verify: the verdict cannot be kept in {_verdict.folder()} ({error}); set TMGAN_CACHE to a "
            "folder that can be written",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted: no new verdict", file=sys.stderr)
        return 130
    print("\n".join(["", *table(verdict), ""]))
    if problems := failures(verdict):
        print(
            "These do not agree with their definitions, and impl='auto' avoids them; please report them with this "
            "output:",
            *problems,
            sep="\n  ",
        )
    else:
        print("All agree with their definitions.")
    print(f"{time.monotonic() - begun:.0f} s; kept in {_verdict.path_of(key)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
