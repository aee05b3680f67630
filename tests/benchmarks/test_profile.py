"""Kernels of a profile by component and label: on a Chrome trace made by hand as Kineto writes it for a GPU, and on the
operators of a real step, profiled on a CPU and given kernels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.gpu import profile, step
from benchmarks.gpu.supervisor import Options
from benchmarks.offline import comparison, counting, predict

MAIN, AUTOGRAD, GPU_STREAM = 4200, 4300, 7
CONVOLUTION = {"Input Dims": [[40, 32, 64, 64], [64, 32, 3, 3], [], [], [], [], [], [], []]}
BACKWARD = {"Input Dims": [[40, 64, 64, 64], [40, 32, 64, 64], [64, 32, 3, 3], [], [], [], [], [], [], [], []]}
BF16 = {"Input type": ["c10::BFloat16", "c10::BFloat16", "", "ScalarList"]}
FLOAT = {"Input type": ["float", "float", ""]}
CALL = "## Call CompiledFxGraph f4wfzukotlzwbeqmhgqkrhfgymxnlaw5czgu ##"


class Recording:
    """A Chrome trace in Kineto's format. The host and the GPU have clocks of their own here: microseconds that pass."""

    def __init__(self):
        self.events: list[dict] = []
        self.host, self.gpu = 1000.0, 5000.0
        self._numbers = iter(range(1, 10**6))
        self._open: list[tuple[int, dict]] = []  # operators and ranges: (thread, event)

    def begin(self, category: str, name: str, thread: int = MAIN, **about) -> None:
        args = {"External id": next(self._numbers), "Record function id": 0, **about}
        event = {"ph": "X", "cat": category, "name": name, "pid": MAIN, "tid": thread, "ts": self.host, "args": args}
        self.events.append(event)
        self._open.append((thread, event))
        self.host += 1

    def end(self) -> None:
        _, event = self._open.pop()
        self.host += 1
        event["dur"] = self.host - event["ts"]

    def kernel(
        self, name: str, duration: float, gap: float = 1.0, driver: bool = False, category: str = "kernel", known=True
    ) -> None:
        """Launched now, within the operators that are open; it starts `gap` after the one before it on the GPU."""
        thread, event = self._open[-1]
        correlation, linked = next(self._numbers), event["args"]["External id"]
        launch = {"cbid": 211, "correlation": correlation, "External id": linked}
        call = ("cuda_driver", "cuLaunchKernelEx") if driver else ("cuda_runtime", "cudaLaunchKernel")
        if known:
            ids = {"pid": MAIN, "tid": thread, "ts": self.host, "dur": 3.0}
            self.events.append({"ph": "X", "cat": call[0], "name": call[1], **ids, "args": launch})
        about = {"device": 0, "context": 1, "stream": GPU_STREAM, "correlation": correlation, "grid": [1, 1, 1]}
        if known:
            about["External id"] = linked
        self.gpu += gap
        place = {"pid": 0, "tid": GPU_STREAM, "ts": self.gpu, "dur": duration}
        self.events.append({"ph": "X", "cat": category, "name": name, **place, "args": about})
        self.gpu += duration
        self.host += 4

    def call(self, name: str, kernel: str, duration: float, thread: int = MAIN, gap: float = 1.0, **about) -> None:
        """An operator that launches one kernel."""
        self.begin("cpu_op", name, thread, **about)
        self.kernel(kernel, duration, gap, driver=name.startswith("triton_"))
        self.end()

    def document(self) -> dict:
        others = [
            {"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": 1.0, "args": {"name": "python"}},
            {"ph": "s", "id": 1, "pid": MAIN, "tid": MAIN, "ts": 1.0, "cat": "ac2g", "name": "ac2g"},
            {
                "ph": "X",
                "cat": "Trace",
                "name": "PyTorch Profiler (0)",
                "ts": 1.0,
                "dur": 9.0,
                "pid": "Spans",
                "tid": "P",
            },
            # As Kineto draws ranges on the GPU's timeline: of the kernels that the range's own thread launched.
            {"ph": "X", "cat": "gpu_user_annotation", "name": "generate", "ts": 5001.0, "dur": 9.0, "pid": 0, "tid": 7},
        ]
        return {"schemaVersion": 1, "deviceProperties": [], "traceEvents": others + self.events[::-1]}


def part(recording: Recording, name: str, *bodies, thread: int = MAIN, before=None) -> None:
    """A part of a step whose graphs launch what `bodies` do."""
    recording.begin("user_annotation", name)
    if before is not None:
        before()
    for body in bodies:
        recording.begin("cpu_op", "CompiledFunctionBackward" if thread == AUTOGRAD else "CompiledFunction", thread)
        recording.begin("user_annotation", CALL, thread)
        body()
        recording.end()
        recording.end()
    recording.end()


def one_step(recording: Recording) -> None:
    """Every kind of kernel once or twice; the times are distinct."""
    r = recording

    def forward() -> None:
        r.begin("cpu_op", "aten::convolution", **CONVOLUTION, **BF16)
        r.begin("cpu_op", "aten::_convolution", **CONVOLUTION, **BF16)
        r.begin("cpu_op", "aten::cudnn_convolution", **CONVOLUTION, **BF16)
        r.kernel("Memset (Device)", 2.0, category="gpu_memset")
        r.kernel("sm90_xmma_fprop_implicit_gemm_bf16bf16_nhwc", 100.0)
        for _ in range(3):
            r.end()
        r.call("triton_poi_fused_add_relu_0", "triton_poi_fused_add_relu_0", 10.0)
        r.call(
            "aten::bmm",
            "sm80_xmma_gemm_f32f32",
            7.0,
            **{"Input Dims": [[40, 18, 64], [40, 64, 9], [40, 18, 9]]},
            **FLOAT,
        )
        bias = {"Input Dims": [[256], [40, 2048], [2048, 256], [], [], [40, 256]]}
        r.call("aten::addmm", "nvjet_tst_64x8", 3.0, **bias, **BF16)
        r.call("tmgan_kernels::instance_norm_glu", "_forward_nhwc", 20.0, **{"Input Dims": [[40, 64, 64, 64], []]})
        r.call("aten::copy_", "Memcpy DtoD (Device -> Device)", 1.5)

    def backward() -> None:
        r.begin("cpu_op", "aten::convolution_backward", AUTOGRAD, **BACKWARD, **BF16)
        r.begin("cpu_op", "aten::contiguous", AUTOGRAD)
        r.call("aten::copy_", "void at::native::elementwise_kernel<128, 2>", 5.0, AUTOGRAD)
        r.end()
        r.kernel("cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_dgrad>", 60.0)
        r.kernel("cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_wgrad>", 70.0)
        r.end()

    def second() -> None:
        r.call("triton_red_fused_sum_1", "triton_red_fused_sum_1", 12.0, AUTOGRAD, gap=30.0)

    r.begin("cpu_op", "aten::fill_")
    r.kernel("void at::native::vectorized_elementwise_kernel<4, FillFunctor>", 1.0)
    r.end()
    remember = lambda: r.call("aten::cat", "void at::native::CatArrayBatchedCopy", 4.0)  # noqa: E731
    part(r, "generate", forward, before=remember)
    part(r, "discriminator loss", lambda: r.call("triton_per_fused_mean_2", "triton_per_fused_mean_2", 6.0))
    ones = lambda: r.call("aten::ones_like", "void at::native::FillFunctor", 0.5)  # noqa: E731
    part(r, "discriminator backward", backward, thread=AUTOGRAD, before=ones)
    part(
        r, "discriminator update", before=lambda: r.call("aten::_fused_adam_", "multi_tensor_apply_kernel<Adam>", 40.0)
    )
    part(r, "generator loss", lambda: r.call("triton_per_fused_mean_3", "triton_per_fused_mean_3", 8.0))
    part(r, "generator backward", backward, second, thread=AUTOGRAD)
    part(r, "generator update", before=lambda: r.call("aten::_fused_adam_", "multi_tensor_apply_kernel<Adam>", 41.0))
    part(r, "average", before=lambda: r.call("aten::_foreach_add_", "multi_tensor_apply_kernel<Add>", 9.0))


@pytest.fixture
def recorded() -> Recording:
    recording = Recording()
    for _ in range(3):
        one_step(recording)
    return recording


def microseconds(rows: list[dict]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["component"], row["label"]
        sums[key] = sums.get(key, 0.0) + 1e6 * row["seconds"]
    return sums


def test_every_kernel_has_its_component_and_label(recorded):
    rows = profile.components(profile.read(recorded.document()))
    found = microseconds(rows)
    narrow, outside = "convolutions, 5 to 32", predict.ADAM
    kernels = {key: time for key, time in found.items() if key[1] != predict.LAUNCHES}
    assert kernels == {
        ("generate forward", narrow): pytest.approx(102.0),
        ("generate forward", "fused"): pytest.approx(10.0),
        ("generate forward", "products, fp32"): pytest.approx(7.0),
        ("generate forward", "products, bf16"): pytest.approx(3.0),
        ("generate forward", "our operations"): pytest.approx(20.0),
        ("generate forward", "other operations"): pytest.approx(1.5),
        ("discriminator forward", "fused"): pytest.approx(6.0),
        ("discriminator backward", narrow): pytest.approx(135.0),
        ("losses of the generator forward", "fused"): pytest.approx(8.0),
        ("losses of the generator backward", narrow): pytest.approx(135.0),
        ("generate backward", "fused"): pytest.approx(12.0),
        (outside, "fused"): pytest.approx(1.0 + 4.0 + 0.5 + 40.0 + 41.0 + 9.0),
    }
    assert found["generate backward", predict.LAUNCHES] == pytest.approx(30.0)
    assert found["discriminator backward", predict.LAUNCHES] == pytest.approx(3.0)
    operators = {(row["what"], row["sizes"]) for row in rows if row["component"] == "generate forward"}
    assert operators == {
        ("convolution", "40x32x64x64 64x32x3x3"),
        ("", ""),
        ("bmm", "40x18x64 40x64x9"),
        ("addmm", "40x2048 2048x256"),
        ("instance_norm_glu", "40x64x64x64"),
        ("copy_", ""),
    }
    comparison.check({"components": rows})


def test_components_and_gaps_add_up_to_the_time_of_the_steps(recorded):
    trace = profile.read(recorded.document())
    begun = [kernel.end for kernel in trace.kernels if "<Add>" in kernel.name][0]  # the first step does not count
    whole = sum(row["seconds"] for row in profile.components(trace))
    assert 2e6 * whole == pytest.approx(trace.kernels[-1].end - begun)


def test_kernels_side_by_side_are_counted_once(recorded):
    before = sum(row["seconds"] for row in profile.components(profile.read(recorded.document())))
    (last,) = [event for event in recorded.events if event["name"] == "multi_tensor_apply_kernel<Add>"][-1:]
    inside = {**last, "ts": last["ts"] + 1, "dur": 4.0, "tid": 20}
    longer = {**last, "ts": last["ts"] + 2, "dur": last["dur"], "tid": 21}
    recorded.events += [inside, longer]
    after = sum(row["seconds"] for row in profile.components(profile.read(recorded.document())))
    assert 2e6 * (after - before) == pytest.approx(2.0), "what sticks out"


def test_without_calls_of_graphs_the_graphs_of_a_part_are_one_component(recorded):
    recorded.events = [event for event in recorded.events if event["name"] != CALL]
    found = {row["component"] for row in profile.components(profile.read(recorded.document()))}
    assert "losses of the generator backward + generate backward" in found and "generate forward" in found
    assert "generate backward" not in found


def test_a_kernel_without_its_launch_goes_with_the_one_before_and_many_are_an_error(recorded):
    recorded.begin("user_annotation", "elsewhere")
    recorded.kernel("a", 1.0, known=False)
    found = microseconds(profile.components(profile.read(recorded.document())))
    assert found[predict.ADAM, "fused"] == pytest.approx(95.5 + 0.5)
    recorded.kernel("b", 500.0, known=False)
    with pytest.raises(ValueError, match=r"what launched \d+% of"):
        profile.components(profile.read(recorded.document()))


def test_a_profile_without_sizes_or_steps_is_an_error():
    lacking = Recording()
    part(lacking, "generate", lambda: lacking.call("aten::convolution", "fprop", 1.0))
    part(lacking, "average")
    with pytest.raises(ValueError, match="record_shapes=True"):
        profile.components(profile.read(lacking.document()))
    elsewhere = Recording()
    elsewhere.begin("user_annotation", "anything")
    elsewhere.kernel("a", 1.0)
    with pytest.raises(ValueError, match="no part 'average'"):
        profile.components(profile.read(elsewhere.document()))


def test_a_trace_that_was_left_is_read_again(recorded, tmp_path, capsys, monkeypatch):
    file = tmp_path / "trace.json.gz"
    file.write_bytes(gzip.compress(json.dumps(recorded.document()).encode()))
    monkeypatch.setattr("sys.argv", ["profile", str(file)])
    profile.main()
    printed = capsys.readouterr().out
    assert "losses of the generator backward: convolutions, 5 to 32" in printed and "ms per step in all" in printed


def test_parts_are_those_of_a_step_and_graphs_those_of_the_report():
    assert tuple(profile.GRAPHS) == step.PARTS
    report = json.loads((Path(profile.__file__).parents[1] / "results" / "offline-editor-batch32.json").read_text())
    assert sorted(sum(profile.GRAPHS.values(), ())) == sorted(graph["graph"] for graph in report["graphs"])


@pytest.fixture(scope="module")
def cpu(tmp_path_factory) -> tuple[dict, dict]:
    """What profile() gives on a CPU, and the trace that it leaves."""
    folder = tmp_path_factory.mktemp("profile")
    options = Options(folder, 60.0, dry=True, gpu=False)
    synthetic, _, _ = step.synthetic_step("eager", 2, options, "quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "STEPS", 0)
        found = profile.profile(synthetic, options, folder / "trace.json.gz")
    return found, profile.load(folder / "trace.json.gz")


def test_a_cpu_has_operations_and_no_kernels(cpu):
    found, _ = cpu
    assert found["components"] == [] and found["kernels"][0]["share"] > 0


def test_a_trace_that_cannot_be_read_costs_the_components_only(tmp_path, monkeypatch):
    def components(trace: profile.Trace) -> list[dict]:
        raise ValueError("it has no part")

    monkeypatch.setattr(profile, "components", components)
    monkeypatch.setattr(profile, "STEPS", 0)
    options = Options(tmp_path, 60.0, dry=True, gpu=False)
    synthetic, _, _ = step.synthetic_step("eager", 2, options, "quickstart")
    found = profile.profile(synthetic, options, tmp_path / "trace.json.gz")
    assert found["components"] == [] and found["unread"] == "ValueError: it has no part" and found["kernels"]
    assert (tmp_path / "trace.json.gz").exists()


def test_the_operators_of_a_real_step_are_told_by_their_sizes(cpu):
    """Each outermost convolution and product of the trace is given a kernel of 1 us, as a GPU would launch it."""
    _, document = cpu
    document = json.loads(json.dumps(document))
    wanted = ("aten::convolution", "aten::convolution_backward", "aten::mm", "aten::addmm", "aten::bmm")
    operators = [event for event in document["traceEvents"] if event.get("ph") == "X" and event["name"] in wanted]
    assert len(operators) > 100
    for number, event in enumerate(sorted(operators, key=lambda event: event["ts"])):
        args = {"correlation": number, "External id": event["args"]["External id"]}
        launch = {
            "ph": "X",
            "cat": "cuda_runtime",
            "name": "cudaLaunchKernel",
            "ts": event["ts"],
            "dur": 0.1,
            "args": args,
        }
        on_gpu = {"ph": "X", "cat": "kernel", "name": "a", "ts": 2.0 * number, "dur": 1.0, "args": args}
        document["traceEvents"] += [launch, on_gpu]
    rows = profile.components(profile.read(document))
    comparison.check({"components": rows})
    kernels = [row for row in rows if row["label"] != predict.LAUNCHES]
    assert sum(row["kernels"] for row in kernels) == len(operators)
    assert {row["component"] for row in kernels} == {
        comparison.JOINED.join(graphs) for graphs in profile.GRAPHS.values() if graphs
    }
    for row in kernels:
        sizes = [tuple(map(int, each.split("x"))) for each in row["sizes"].split()]
        if row["what"] == "convolution":
            x, weight = sizes
            assert x[1] == weight[1] and row["label"].startswith("convolutions, ")
        elif row["what"] == "convolution_backward":
            gradient, x, weight = sizes
            assert (gradient[1], x[1]) == weight[:2] and gradient[0] == x[0]
        else:
            assert sizes[0][-1] == sizes[1][-2] and row["label"].startswith(counting.PRODUCT)
