"""What test_gpu_path.py runs on a card that is there but computes nothing.

python -m benchmarks.stand_in [--caching] tests.training.gpu_path WHAT FOLDER
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch

from benchmarks.step.measure import measure_step
from tmgan.cli import main as tmgan
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.training import bench
from tmgan.training.engine import Eager
from tmgan.training.snapshot import Snapshot

SMALL = "--images 32 --pretrain.images 32 --drawn-images 60 --output.checkpoint-images 16 --runtime.engine eager"


def commands(folder: Path) -> None:
    """The commands of a run, each as a user gives it; one that fails ends this process with its status."""
    run = folder / "run"
    tmgan(["train", "--run", str(run), *SMALL.split()])
    tmgan(["train", "--run", str(run), *SMALL.replace("32", "40", 1).split()])  # goes on from its checkpoint
    tmgan(["replay", str(run), "--step", "3"])
    photo = next((run / "drawn").rglob("*.jpg"))
    tmgan(["edit", str(run), str(photo), "--text", "a bird with a red head", "--out", str(folder / "edit.png")])
    tmgan(["bench", *"--preset quickstart --engines eager --seconds 0.1".split()])
    tmgan(["bench", *f"--preset quickstart --runtime.engine eager --profile {folder}/trace.json".split()])


def graphed_step() -> bench.SyntheticStep:
    runtime = decide(RuntimeConfig(engine="graphed", threads=1))
    config = configfile.from_preset("quickstart")
    synthetic = bench.synthetic_step(config, runtime)
    synthetic.step.functions = Eager(synthetic.step.objective)  # what is compiled, test_engines.py looks at
    return synthetic


def graph(folder: Path) -> None:
    """A step in a CUDA graph, with a save beside it; then two steps that no graph can hold."""
    synthetic = graphed_step()
    step = synthetic.step
    weights = [p.detach().cpu() for p in step.generator.parameters()]
    step(synthetic.batch, 0)
    snapshot = Snapshot(torch.device("cuda"))
    state = snapshot.begin(step.state_dict(), step.buffers())
    step.before_update = snapshot.wait
    copying = threading.Thread(target=snapshot.copy)
    copying.start()
    step(synthetic.batch, 8)
    copying.join()
    config = configfile.from_preset("quickstart")
    row = measure_step(synthetic, "graphed", config, step.runtime, {}, 1.0, 0.1)
    print(f"a graph needs what stays, and {row['peak_bytes'] / torch.cuda.memory_allocated() - 1:.0%}")
    saved = [state["generator"][name] for name, _ in step.generator.named_parameters()]
    print(f"saved beside a graph: {all(map(torch.equal, weights, saved))}")

    def look() -> None:
        synthetic.batch.images.sum().item()

    def copy() -> None:
        synthetic.batch.noise.copy_(torch.zeros(synthetic.batch.noise.shape))

    for wrong in (look, copy):
        again = graphed_step()
        again.step.average = lambda share, wrong=wrong: wrong()
        try:
            again.step(again.batch, 0)
        except RuntimeError:
            print(f"refused: {wrong.__name__}")


if __name__ == "__main__":
    {"commands": commands, "graph": graph}[sys.argv[1]](Path(sys.argv[2]))
