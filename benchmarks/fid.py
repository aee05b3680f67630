"""From a checkpoint to its FID: `tmgan evaluate` against saving pictures and running pytorch-fid's command line.

    python -m benchmarks.fid RUN NAME [--data PACK] [--count N]      # writes results/fid-NAME.json

Both load the run, edit the same held-out photos by the same texts and compare them with the same reals, whose
statistics both have computed beforehand. Both use the same random weights of the FID network, so no file is needed.
Each timing covers one process, from its start to the printed number: seconds, and processor seconds, which are the
ones to compare on a CPU that other processes use too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe

RESULTS = Path(__file__).parent / "results"
AGREE = 1e-4  # largest relative difference of the two distances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--stage", choices=("ours", "save", "theirs"))
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.stage:
        {"ours": ours, "save": save, "theirs": theirs}[arguments.stage](arguments)
        return
    with tempfile.TemporaryDirectory() as folder:

        def stage(name: str) -> tuple[dict[str, float], dict]:
            command = [sys.executable, "-m", "benchmarks.fid", *sys.argv[1:], "--stage", name, "--folder", folder]
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            out = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMGAN_CACHE": folder}
            ).stdout
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            return (
                {
                    "seconds": seconds,
                    "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                },
                json.loads(out.splitlines()[-1]),
            )

        first, _ = stage("ours")  # fills the cache of reals
        stage("save")  # and saves the reals, of which pytorch-fid keeps its statistics
        stage("theirs")
        warm, mine = stage("ours")
        save_timing, _ = stage("save")
        fid_timing, other = stage("theirs")
    error = abs(mine["fid"] / other["fid"] - 1)
    if error > AGREE:
        sys.exit(f"The two distances differ by {error:.1e}: {mine['fid']} and {other['fid']}.")
    result = {
        "photos": mine["photos"],
        "reals": mine["reals"],
        "image_size": mine["image_size"],
        "timings": {
            "tmgan": warm,
            "tmgan, reals not cached": first,
            "save pictures": save_timing,
            "pytorch-fid": fid_timing,
        },
        "ratio": {unit: (save_timing[unit] + fid_timing[unit]) / warm[unit] for unit in warm},
        "relative_difference": error,
        "machine": describe(mine["device"]),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"fid-{arguments.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{path}: {json.dumps(result['ratio'])} times as fast")


def opened(arguments: argparse.Namespace):
    """Editor, pack and protocol."""
    from tmgan.data.pack import Pack
    from tmgan.editing.editor import load
    from tmgan.evaluation.protocol import Protocol

    editor = load(arguments.run)
    pack = Pack.open(arguments.data or editor.config.data or arguments.run / "drawn" / "pack", editor.image_size)
    return editor, pack, Protocol(metrics=("fid",), count=arguments.count, weights="random")


def ours(arguments: argparse.Namespace) -> None:
    """What `tmgan evaluate RUN --metrics fid` does."""
    from tmgan.evaluation.evaluate import evaluate

    editor, pack, protocol = opened(arguments)
    evaluation = evaluate(editor, pack, protocol)
    print(
        json.dumps(
            {
                "fid": evaluation["fid/test"].value,
                "photos": evaluation["fid/test"].n,
                "reals": len(pack.test),
                "image_size": editor.image_size,
                "device": editor.runtime.device.type,
            }
        )
    )


def save(arguments: argparse.Namespace) -> None:
    """Write the edits as PNG files, and the reals too unless they are there."""
    import torch
    from PIL import Image

    from tmgan.data.crops import centre_crops
    from tmgan.evaluation.metrics.edits import make_edits, make_pairs

    def write(images: torch.Tensor, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()):
            Image.fromarray(image).save(folder / f"{number:06d}.png")

    editor, pack, protocol = opened(arguments)
    pairs = make_pairs(pack, protocol.split, protocol.count, protocol.captions, protocol.seed)
    batches = make_edits(editor, pack, pairs, (), protocol.seed, protocol.batch)
    write(torch.cat([batch.edits.cpu() for batch in batches]), arguments.folder / "edits")
    if not (arguments.folder / "reals").exists():
        write(centre_crops(pack.tiles, pack.test, editor.image_size), arguments.folder / "reals")
    print("{}")


def theirs(arguments: argparse.Namespace) -> None:
    """`python -m pytorch_fid`, with our random weights in place of its download."""
    import pytorch_fid.fid_score
    import pytorch_fid.inception
    import scipy.linalg
    import torch

    from tmgan.evaluation.metrics.features import random_fid_state

    pytorch_fid.inception.load_state_dict_from_url = lambda url, progress: random_fid_state()

    # scipy 1.18 has dropped an argument that pytorch-fid passes.
    class Linalg:
        @staticmethod
        def sqrtm(matrix, disp=True):
            root = scipy.linalg.sqrtm(matrix)
            return root if disp else (root, 0.0)

    pytorch_fid.fid_score.linalg = Linalg
    device = "cuda" if torch.cuda.is_available() else "cpu"
    statistics = arguments.folder / "reals.npz"
    if not statistics.exists():
        pytorch_fid.fid_score.save_fid_stats([str(arguments.folder / "reals"), str(statistics)], 50, device, 2048, 1)
        print("{}")
        return
    paths = [str(statistics), str(arguments.folder / "edits")]
    fid = pytorch_fid.fid_score.calculate_fid_given_paths(paths, 50, device, 2048, 1)
    print(json.dumps({"fid": float(fid)}))


if __name__ == "__main__":
    main()
