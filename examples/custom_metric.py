"""A metric of your own, measured beside tmgan's on the same edits: how colourful photos and edits are.

    python examples/custom_metric.py runs/quickstart

Colourfulness is that of Hasler and Suesstrunk (2003), in levels of 255.
"""

from __future__ import annotations

import argparse

from torch import Tensor

import tmgan


class Colourfulness(tmgan.PerImage):
    """One number per image: give the numbers of a batch, then say what they are."""

    def of_batch(self, batch: tmgan.Edits) -> dict[str, Tensor]:
        """batch.photos and batch.edits are (B, 3, S, S) in [-1, 1]; batch.texts says what the edits should obey."""
        return {"colourful": colourfulness(batch.edits), "colourful_photo": colourfulness(batch.photos)}

    def measure(self, name: str, values: list[float]) -> tmgan.Measure:
        """Adds unit and direction; mean and 95% interval come with it."""
        return tmgan.Measure.of(values, unit="levels of 255")


def colourfulness(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B,)."""
    red, green, blue = ((images + 1) * 127.5).unbind(1)
    across, down = red - green, (red + green) / 2 - blue
    spread = across.var((1, 2)) + down.var((1, 2))
    mean = across.mean((1, 2)).square() + down.mean((1, 2)).square()
    return spread.sqrt() + 0.3 * mean.sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="", help="run folder of `tmgan train`; without it a toy is trained")
    parser.add_argument("--toy", action="store_true", help="few images, to see that it works")
    options = parser.parse_args()
    small = (
        {"images": 16, "drawn_images": 20, "pretrain": {"images": 32}, "runtime": {"threads": 1}} if options.toy else {}
    )
    run = options.run or tmgan.train(tmgan.configure("quickstart", run="runs/custom-metric", **small), evaluated=False)

    evaluation = tmgan.evaluate(run, protocol=tmgan.Protocol(metrics=("sharpness",), count=100), own=[Colourfulness()])
    for name, measure in evaluation.items():
        print(f"{name:16} {measure.value:7.2f}  ({measure.low:.2f} to {measure.high:.2f})")
    difference = tmgan.difference(evaluation["colourful_photo"], evaluation["colourful"])
    print(f"edits against photos: {difference.change.value:+.2f}, {difference.verdict}")


if __name__ == "__main__":
    main()
