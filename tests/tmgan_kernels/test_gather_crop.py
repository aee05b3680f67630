"""gather_crop: the contract of all operations as far as bytes can keep it, and slices of the tiles."""

import pytest
import torch

from tmgan_kernels.gather_crop import gather_crop, gather_crop_eager, gather_op

from .contract import DEVICE, GPU, KernelContract

IMPLEMENTATIONS = ("eager", "triton")


class TestGatherCrop(KernelContract):
    """Shapes are (B, C, T, T): so many crops, of seven eighths of a tile's edge. Equal bit for bit, in every test."""

    operation = gather_crop
    variants = ({}, {"value_range": (-0.7, 0.3)})
    # A thread takes one value or, where a row of the crop is a multiple of it, four. The last: two blocks per image.
    shapes = ((1, 1, 1, 1), (3, 3, 8, 8), (2, 1, 5, 5), (2, 2, 12, 12), (2, 5, 10, 10), (2, 3, 46, 46))
    gpu_shapes = ((16, 3, 293, 293),)
    differentiable = ()
    compiled_shapes = ((2, 3, 293, 293), (2, 1, 293, 293))  # crops of 256; those of masks have strides of 1

    def inputs(self, shape, dtype, random):
        batch, channels, edge, _ = shape
        corners = edge - self.size(edge) + 1
        return [
            torch.randint(256, (batch + 2, edge, edge, channels), generator=random, dtype=torch.uint8),
            torch.randint(batch + 2, (batch,), generator=random),
            torch.randint(corners, (batch,), generator=random),
            torch.randint(corners, (batch,), generator=random),
            torch.arange(batch) % 2 == 0,
        ]

    @staticmethod
    def size(edge):
        return max(1, edge * 7 // 8)

    def run(self, inputs, impl, variant):
        return [gather_crop(*inputs, size=self.size(inputs[0].shape[1]), **variant, impl=impl)]

    def operators(self, inputs):
        return [(gather_op, (*inputs, self.size(inputs[0].shape[1]), -1.0, 1.0))]

    def compare(self, actual, low, exact):
        assert actual[0].dtype == torch.float32
        assert torch.equal(actual[0], low[0])

    def test_parity(self):
        """Once: no input has a choice of dtype."""
        super().test_parity(None)

    # Bytes are neither infinite nor 1e4, and have no gradient and no dtype; tiles beyond 2 GB have a test below.
    test_nonfinite_values_travel_as_in_eager = None
    test_constant_and_large_values = None
    test_gradient_parity = None
    test_gradcheck = None
    test_auto_is_the_kernel_on_a_gpu_and_eager_in_float64 = None
    test_images_beyond_two_billion_values = None

    @pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "channels first"])
    def test_layouts(self, layout):
        """Instead of the contract's layouts, which pad with NaN: tiles of any strides."""
        for edge in (8, 10):  # rows of 21 and of 24 values; sliced, of 14
            tiles, *places = self.make((3, 3, edge, edge), None)
            strided = {
                "transposed": tiles.transpose(1, 2),
                "sliced": tiles[:, 1:, :-1, 1:],
                "expanded": tiles[:1].expand(5, edge, edge, 3),
                "channels first": tiles.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
            }[layout]
            for inputs in ([strided, *places], [strided, *(place[::2] for place in places)]):
                (actual,) = self.run(inputs, "triton", {})
                assert torch.equal(actual, *self.run([x.contiguous() for x in inputs], "eager", {}))

    # ------------------------------------------------------- independent oracle
    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
    def test_equals_slicing(self, channels, value_range, impl):
        low, high = value_range
        tiles, index, top, left, flip = self.make((6, channels, 12, 12), None)
        crops = gather_crop(tiles, index, top, left, flip, 7, value_range, impl=impl)
        for crop, tile, row, column, mirrored in zip(crops, tiles[index], top, left, flip, strict=True):
            wanted = tile[row : row + 7, column : column + 7]
            wanted = (wanted.flip(1) if mirrored else wanted).permute(2, 0, 1).double() * (high - low) / 255 + low
            torch.testing.assert_close(crop.double(), wanted, rtol=0, atol=1e-7 * (high - low))

    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    @pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (-0.7, 0.3)])
    def test_every_byte_is_rounded_as_numpy_rounds_it(self, value_range, impl):
        """And the ends of the range are met exactly."""
        low, high = value_range
        byte = torch.arange(256, dtype=torch.uint8, device=DEVICE).view(1, 16, 16, 1)
        zero = torch.zeros(1, dtype=torch.int64, device=DEVICE)
        actual = gather_crop(byte, zero, zero, zero, zero > 0, 16, value_range, impl=impl).flatten()
        values = byte.cpu().flatten().numpy().astype("float32")
        wanted = torch.from_numpy(
            values * values.dtype.type(high - low) / values.dtype.type(255) + values.dtype.type(low)
        )
        assert torch.equal(actual.cpu(), wanted)
        assert actual[[0, -1]].tolist() == torch.tensor(value_range).tolist()

    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    def test_is_channels_last(self, impl):
        assert self.run(self.make((2, 3, 8, 8), None), impl, {})[0].is_contiguous(memory_format=torch.channels_last)

    # ------------------------------------------------------------- out of range
    @pytest.mark.parametrize(("which", "value"), [(1, -1), (1, 5), (2, -1), (2, 2), (3, -1), (3, 2), (3, 2**40)])
    def test_a_crop_out_of_range_is_nan_and_no_other(self, which, value):
        """Also where Python would count from the end: no silent wrong answer."""
        inputs = self.make((3, 3, 8, 8), None)
        (wanted,) = self.run(inputs, "eager", {})
        inputs[which][1] = value
        for implementation in IMPLEMENTATIONS if DEVICE.type == "cuda" else ("triton",):
            (actual,) = self.run(inputs, implementation, {})
            assert actual[1].isnan().all()
            assert torch.equal(actual[[0, 2]], wanted[[0, 2]])
        with pytest.raises(IndexError, match="crop 1 lies outside"):
            gather_crop_eager(*(x.cpu() for x in inputs), 7)

    @pytest.mark.skipif(not GPU, reason="the interpreter copies the tiles, here 2 GB")
    def test_reaches_tiles_beyond_two_gigabytes(self):
        tiles = torch.zeros(2**25 + 1, 8, 8, 1, dtype=torch.uint8, device=DEVICE)
        tiles[-1] = torch.arange(64, dtype=torch.uint8).view(8, 8, 1)
        place = torch.zeros(1, dtype=torch.int64, device=DEVICE)
        crop = gather_crop(tiles, place + 2**25, place, place, place > 0, 8, (0, 255), impl="triton")
        assert crop.flatten().tolist() == list(range(64))

    # ------------------------------------------------------------------ errors
    def test_refuses_what_it_cannot_mean(self):
        tiles, index, top, left, flip = self.make((3, 3, 8, 8), None)
        for wrong in (tiles.float(), tiles[0], tiles[:, 1:], tiles[:0]):
            with pytest.raises(ValueError, match="tiles must be uint8"):
                gather_crop(wrong, index, top, left, flip, 7)
        for size in (0, 9):
            with pytest.raises(ValueError, match="does not fit"):
                gather_crop(tiles, index, top, left, flip, size)
        for name, places in (
            ("index", (index.int(), top, left, flip)),
            ("top", (index, top[:1], left, flip)),
            ("left", (index, top, left[:, None], flip)),
            ("flip", (index, top, left, flip.long())),
        ):
            with pytest.raises(ValueError, match=f"{name} must be"):
                gather_crop(tiles, *places, 7)
