"""How long the GPU is idle in the training loop: the steps of EditorTask under torch's profiler, a few of them.

Idle is the share of the time in which no kernel, copy or fill runs, by CUPTI's own time stamps: nvidia-smi's
utilisation is a mean of coarse samples, and events around a step miss the gaps within it. The speed of the loop leaves
those steps out.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.gpu.journal import Journal
from benchmarks.gpu.supervisor import Options

FIRST = 500  # step of the loop from which it is traced: seconds after its start, before its first checkpoint
TRACED = 50  # steps; the first fifth of their time is left out


class Trace:
    """While it is entered, the loop's steps are counted, and some of them run under torch's profiler.

    Attributes:
        images: seen before the first traced step and after the last one.
    """

    def __init__(self, journal: Journal, options: Options, batch: int):
        self.journal, self.options, self.batch = journal, options, batch
        self.first, self.count = (3, 3) if options.dry else (FIRST, TRACED)
        self.images = (self.first * batch, (self.first + self.count + 1) * batch)
        self._profiler = None

    def __enter__(self) -> None:
        from tmgan.training.editor_task import EditorTask

        self._task, self._step = EditorTask, EditorTask.step

        def step(task, number: int):
            if number == self.first:
                self._begin()
            if number == self.first + self.count:
                self._end()
            return self._step(task, number)

        EditorTask.step = step

    def __exit__(self, *error: object) -> None:
        self._task.step = self._step
        if self._profiler is not None:  # stopped meanwhile: what was traced is no whole window
            self._profiler.__exit__(None, None, None)

    def _begin(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        # The GPU's own activities alone: without the host's, a step takes hardly longer than without a profiler.
        activity = ProfilerActivity.CUDA if self.options.gpu else ProfilerActivity.CPU
        self._profiler = profile(activities=[activity])
        self._profiler.__enter__()

    def _end(self) -> None:
        import torch

        if self.options.gpu:
            torch.cuda.synchronize()
        profiler, self._profiler = self._profiler, None
        try:
            profiler.__exit__(None, None, None)
            kind = torch.autograd.DeviceType.CUDA if self.options.gpu else torch.autograd.DeviceType.CPU
            share, microseconds = idle_share(spans(profiler.events(), kind))
        except Exception as error:  # the training goes on without this row
            self.journal.error("idle", error)
            return
        self.journal.row(
            "idle",
            share=share,
            seconds=microseconds / 1e6,
            steps=self.count,
            shown=f"{share:.1%} of {self.count} steps",
        )


def spans(events: Iterable, device_type: object) -> list[tuple[float, float]]:
    """Start and end, in microseconds, of what ran on a device, of torch.profiler's events.

    Without annotations: they are drawn around kernels, and around what lies between them.
    """
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == device_type and not event.is_user_annotation
    ]


def idle_share(spans: Iterable[tuple[float, float]], skip: float = 0.2) -> tuple[float, float]:
    """The share of the time in which none of the spans (start, end) runs, and that time.

    Args:
        skip: share of the time from the first start to the last end that is left out at its beginning.

    Raises:
        ValueError: there is no span.
    """
    ordered = sorted(spans)
    if not ordered:
        raise ValueError("the profiler saw nothing run")
    last = max(end for _, end in ordered)
    begin = now = ordered[0][0] + skip * (last - ordered[0][0])
    idle = 0.0
    for start, end in ordered:
        if end <= now:
            continue
        idle += max(start - now, 0.0)
        now = end
    return idle / (last - begin), last - begin
