"""The part of a step outside its three graphs: Adam, the averaged generator, the gradients' zeros. By arithmetic."""

from __future__ import annotations

from torch import nn

# torch's multi_tensor_apply (MultiTensorApply.cuh): elements per block, blocks per launch, tensors per launch by lists
_CHUNK, _BLOCKS, _TENSORS = 65536, 320, {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}


Call = tuple[str, list[int], int, bool]  # as trace.Calls notes it


def launches(sizes: list[int], lists: int) -> int:
    """Launches of one foreach or fused call over tensors of these numbers of elements, `lists` tensors side by side."""
    count = tensors = blocks = 0
    for size in sizes:
        tensors += 1
        for chunk in range(chunks := -(-size // _CHUNK)):
            blocks += 1
            last = chunk == chunks - 1
            if blocks == _BLOCKS or (tensors == _TENSORS[lists] and last):
                count, blocks = count + 1, 0
                tensors = 0 if last else 1
    return count + (blocks > 0)


def rows(networks: dict[str, nn.Module], average: list[Call]) -> list[dict]:
    """{"what", "bytes", "launches"}, all fp32.

    The networks' trained parameters are those that require a gradient. Adam reads weight, gradient and two moments and
    writes three of them; the average launches what its calls say.
    Gradients are set to None, which costs nothing.
    """
    parts = []
    for name, network in networks.items():
        sizes = [parameter.numel() for parameter in network.parameters() if parameter.requires_grad]
        parts.append(
            {
                "what": f"Adam of the {name} (fused)",
                "bytes": 28 * sum(sizes),
                "launches": launches(sizes, 4) + launches([1] * len(sizes), 1),
            }
        )  # and the counts of its steps
    average_bytes = sum(4 * sum(sizes) * (_passes(name, lists)) for name, sizes, lists, _ in average)
    parts.append(
        {
            "what": "average of the generator",
            "bytes": average_bytes,
            "launches": sum(_launches(call) for call in average),
        }
    )
    return parts + [{"what": "zero_grad (to None)", "bytes": 0, "launches": 0}]


def _passes(name: str, lists: int) -> int:
    """How often a call goes over its tensors: what it changes is read and written, other lists of its size are read."""
    return 3 if "lerp" in name else 1 + max(lists, 1)


def _launches(call: Call) -> int:
    """foreach with weights that are 0-dimensional tensors takes the slow path: one launch per tensor."""
    name, sizes, lists, scalars = call
    return launches(sizes, lists) if "_foreach_" in name and not scalars else len(sizes)
