"""Rows of pixels by the piece: the 16 bytes that a thread loads or stores at once, in NCHW and in interleaved NHWC.

A row is a tensor (T, V), T pieces of V neighbouring pixels. A thread holds all V of a piece, so `apart`, `together` and
what is computed between them are names of registers, not instructions. Interleaved, V pixels of C channels are C
neighbouring loads or stores of 16 bytes a thread; a load a value would be 3 * 8 loads of two bytes for bfloat16.
"""

from torch import Tensor

from tmgan_kernels._triton import jit, tl

MOST_CHANNELS = 4  # interleaved: C * V values are in registers at once


@jit
def apart(x, T: tl.constexpr, V: tl.constexpr):
    """The V columns of x (T, V), each (T,)."""
    even, odd = tl.split(tl.reshape(x, (T, V // 2, 2)))
    if V == 2:
        columns = (tl.reshape(even, (T,)), tl.reshape(odd, (T,)))
    else:
        even = apart(even, T, V // 2)
        odd = apart(odd, T, V // 2)
        columns = ()
        for j in tl.static_range(V // 2):
            columns = columns + (even[j], odd[j])
    return columns


@jit
def together(columns, T: tl.constexpr, V: tl.constexpr):
    """(T, V) of V columns (T,)."""
    if V == 2:
        x = tl.join(columns[0], columns[1])
    else:
        even = ()
        odd = ()
        for j in tl.static_range(V // 2):
            even = even + (columns[2 * j],)
            odd = odd + (columns[2 * j + 1],)
        x = tl.reshape(tl.join(together(even, T, V // 2), together(odd, T, V // 2)), (T, V))
    return x


@jit
def load_interleaved(x_ptr, piece, width, mask, C: tl.constexpr, T: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr):
    """The C * V values of every piece of a row of `width` pixels that begins at x_ptr, in memory order, each (T,).

    piece (T, 1): the pieces' numbers in the row; mask (T, 1): which are wanted.
    """
    values = ()
    for k in tl.static_range(C):
        i = (piece * C + k) * V + tl.arange(0, V)[None, :]
        values = values + apart(tl.load(x_ptr + i, mask=mask & (i < width * C), other=0.0).to(ACC), T, V)
    return values


@jit
def store_interleaved(x_ptr, values, piece, width, mask, C: tl.constexpr, T: tl.constexpr, V: tl.constexpr):
    """The counterpart of `load_interleaved`. values are in the dtype of x_ptr."""
    for k in tl.static_range(C):
        part = ()
        for j in tl.static_range(V):
            part = part + (values[k * V + j],)
        i = (piece * C + k) * V + tl.arange(0, V)[None, :]
        tl.store(x_ptr + i, together(part, T, V), mask=mask & (i < width * C))


def per_piece(x: Tensor) -> int:
    """V: as many values of x as are 16 bytes."""
    return 16 // x.element_size()


def interleaved(x: Tensor) -> bool:
    """Whether the pixels of each row of x (B, C, H, W) lie one after the other, with few channels between them."""
    channels = x.shape[1]
    return 1 < channels <= MOST_CHANNELS and (x.stride(1), x.stride(3)) == (1, channels)
