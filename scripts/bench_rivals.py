"""Other ways to the same psums: the notebook's loop, one torch product a layer, and NumPy's einsum."""

import importlib.util
import time

import numpy as np

from factory.arithmetic.tiling import tile_activation
from factory.spec import ConvLayer, SystolicArray

HAS_TORCH = importlib.util.find_spec("torch") is not None


def notebook_loop(activation: np.ndarray, weight: np.ndarray, calls: int) -> tuple[np.ndarray, float]:
    """Return one tile's psums `(nij, col)` of the first `calls` pixels by the notebook's loop, and its seconds.

    `activation` `(nij, row)` and `weight` `(col, row)` are integers. The loop makes an `nn.Linear` for every pixel, as
    the notebook does, without its copies to a GPU.
    """
    import torch
    from torch import nn

    tile, pixels = torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(activation.astype(np.float32).T)
    psum = torch.zeros(len(weight), calls)
    start = time.perf_counter()
    for nij in range(calls):
        m = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        m.weight = torch.nn.Parameter(tile)
        psum[:, nij] = m(pixels[:, nij])
    seconds = time.perf_counter() - start
    return psum.detach().numpy().T.astype(np.int64), seconds


def torch_psums(codes: np.ndarray, weight_tile: np.ndarray, conv: ConvLayer, array: SystolicArray) -> np.ndarray:
    """Return one image's psums, int16 `(it, ot, kij, nij, col)`, by padding, one `bmm`, and a copy in that order.

    `codes` `(ic, y, x)`; `weight_tile` float32 `(it, row, ot * kij * col)`, as `rival_weight` gives it.
    """
    import torch
    import torch.nn.functional as F

    inputs, rows, _ = weight_tile.shape
    spare = inputs * rows - conv.in_channels
    padded = F.pad(torch.from_numpy(codes.astype(np.float32)), (conv.padding[0],) * 4 + (0, spare))
    psum = torch.bmm(padded.reshape(inputs, rows, -1).transpose(1, 2), torch.from_numpy(weight_tile))
    split = psum.reshape(inputs, conv.nij_count, -1, conv.kij_count, array.cols)
    return split.permute(0, 2, 3, 1, 4).to(torch.int16, memory_format=torch.contiguous_format).contiguous().numpy()


def rival_weight(weight: np.ndarray) -> np.ndarray:
    """`(it, ot, kij, row, col)` -> float32 `(it, row, ot * kij * col)`."""
    return np.ascontiguousarray(weight.transpose(0, 3, 1, 2, 4).reshape(len(weight), weight.shape[3], -1), np.float32)


def einsum_psums(codes: np.ndarray, weight: np.ndarray, conv: ConvLayer, array: SystolicArray) -> np.ndarray:
    """Return one image's psums, int16 `(it, ot, kij, nij, col)`, by `numpy.einsum` in float32.

    `codes` `(ic, y, x)`; `weight` float32 `(it, ot, kij, row, col)`.
    """
    tiles = tile_activation(codes, conv, array).astype(np.float32)
    return np.einsum("inr,iokrc->ioknc", tiles, weight, optimize=True).astype(np.int16)
