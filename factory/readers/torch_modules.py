"""Codes of one quantized PyTorch module: the notebook's own, Brevitas', and those of `torch.ao.nn.quantized`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64, Integer

from factory.quant.grid import MOST_BITS, activation_bits, grid_codes, weight_bits
from factory.quant.host import activation_codes
from factory.spec import InputError

if TYPE_CHECKING:
    import torch

_BOUNDARY = 1e-4  # of a step: where another order of the same formula may round to the other side
_SAME_SCALE = 1e-6  # relative: two float32 that stand for one product of scales
_RAMP = 2**13  # values on which a module's quantizers are tried: 16 to each code of 8 bits


@dataclass(frozen=True)
class Codes:
    """A tensor's integers, the quantizer's bits and sign, and the real value of code 1 (of each `oc`, or of all)."""

    values: Integer[np.ndarray, "*_"]
    bits: int
    signed: bool
    scale: Float[np.ndarray, " scale"]
    zero_point: int = 0


@dataclass(frozen=True)
class Geometry:
    """What a convolution states beside its weights: `(y, x)` each, `padding` is `(top, left, bottom, right)`."""

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class ModuleCodes:
    """What one call of a module gives: its weights, its input, the formula that made them, and what to tell the user.

    Axes are the module's own: weights `(oc, ic / groups, ki, kj)`, or `(out, in)` where `geometry` is None: a matrix
    product. Weights have no zero point.
    """

    weight: Codes
    activation: Codes
    geometry: Geometry | None
    formula: str
    bias: Int32[np.ndarray, " oc"] | None = None
    notes: tuple[str, ...] = ()


Reader = Callable[["str", "torch.nn.Module", "torch.Tensor"], "ModuleCodes | str"]
"""Takes a layer's name, its module and the input of a call; a text is the reason why there are no codes."""


def reader_of(module: torch.nn.Module) -> Reader | str | None:
    """Return what reads a module's codes, the reason why nothing does, or None: no convolution, no matrix product."""
    import torch.ao.nn.quantized as ao
    import torch.ao.nn.quantized.dynamic as dynamic
    from torch import nn

    kind = type(module).__name__
    if isinstance(module, (dynamic.Linear, dynamic.Conv1d, dynamic.Conv2d, dynamic.Conv3d)):
        return f"{kind} is quantized dynamically: the scale of its input changes with the input"
    if isinstance(module, (ao.Conv2d, ao.Linear)):
        return _read_ao
    if isinstance(module, (nn.modules.conv._ConvNd, ao.modules.conv._ConvNd)) and not isinstance(module, nn.Conv2d):
        return f"{kind}: only convolutions of two dimensions are taken, transposed ones are not"
    if _is_notebooks(module):
        return _read_notebooks
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return _read_brevitas if _is_brevitas(module) else f"{kind}: its weights are not quantized"
    return None


def _is_notebooks(module: torch.nn.Module) -> bool:
    alpha = getattr(getattr(module, "weight_quant", None), "wgt_alpha", None)
    return alpha is not None and all(hasattr(module, name) for name in ("weight_q", "act_alpha"))


def _is_brevitas(module: torch.nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("quant_weight", "input_quant", "bias_quant"))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _geometry(name: str, module: torch.nn.Module) -> Geometry | None:
    """Return what a convolution module states; None for a linear one."""
    if not hasattr(module, "kernel_size"):
        return None
    _check_border(name, module)
    return _sided(module.kernel_size, module.stride, module.padding, module.dilation, module.groups)


def _check_border(name: str, module: torch.nn.Module) -> None:
    if (mode := getattr(module, "padding_mode", "zeros")) != "zeros":
        raise InputError(f"{name}: padding_mode must be zeros, not {mode}")


def _sided(kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    """Return torch's arguments of a convolution for each axis and side: `same` has its odd pixel after the map."""
    stride, dilation = _pair(stride), _pair(dilation)
    if isinstance(padding, str):
        reach = [d * (size - 1) * (padding == "same") for d, size in zip(dilation, kernel, strict=True)]
        return Geometry(stride, (*(x // 2 for x in reach), *(x - x // 2 for x in reach)), dilation, groups)
    return Geometry(stride, _pair(padding) * 2, dilation, groups)


def _pair(value: Any) -> tuple[int, int]:
    numbers = tuple(value) if isinstance(value, Iterable) else (value,)
    return numbers * 2 if len(numbers) == 1 else numbers


# The notebook's modules


def _read_notebooks(name: str, module: torch.nn.Module, x: torch.Tensor) -> ModuleCodes:
    """Take a module that quantizes in its forward: `weight_q` by `wgt_alpha`, its input by `act_alpha`.

    It states no bits: those of its input follow from what its forward makes of a ramp, those of its weights from
    the values that there are, and from what `weight_quant` makes of a ramp.
    """
    import torch

    if x.dtype != torch.float32:
        raise InputError(f"{name}: its input must be float32, not {str(x.dtype).removeprefix('torch.')}")
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{name}: its input must be finite, it holds inf or nan")
    _check_border(name, module)
    alpha_a = _alphas(f"{name}: act_alpha", module.act_alpha, 1)[0]
    before = None if module.weight_q is None else _numpy(module.weight_q).copy()
    ramp = _ramp(x, float(alpha_a))
    product = _product(name, module, ramp)
    bits = _checked_bits(name, _numpy(ramp), product.entering, alpha_a)
    try:
        codes = activation_codes(_numpy(x), alpha_a, bits)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    levels = 2**bits - 1
    weight, notes = _notebooks_weight(name, module, before, product.weight)
    return ModuleCodes(
        weight,
        Codes(codes, bits, False, np.array([alpha_a / np.float32(levels)], np.float32)),
        product.geometry,
        f"round(min(a / act_alpha, 1) * {levels}) of float32, act_alpha {alpha_a!s}; weight_q",
        notes=notes + ((_without_bias(name),) if product.biased else ()),
    )


def _notebooks_weight(
    name: str, module: torch.nn.Module, before: np.ndarray | None, multiplied: np.ndarray
) -> tuple[Codes, tuple[str, ...]]:
    """Return the codes of `weight_q` as the forward left it, and how many the forward or the time before had others."""
    real = multiplied if module.weight_q is None else _numpy(module.weight_q)
    alpha = _alphas(f"{name}: weight_quant.wgt_alpha", module.weight_quant.wgt_alpha, real.shape[0])
    by_channel = alpha.reshape(-1, *(1,) * (real.ndim - 1))
    bits = max(weight_bits(*x, by_channel) for x in ((f"{name}: weight_q", real), *_weight_ramp(name, module, real)))
    step = by_channel / np.float32(2 ** (bits - 1) - 1)
    codes = grid_codes(f"{name}: weight_q", real, step)
    if multiplied.shape != real.shape:
        raise InputError(f"{name}: weight_q must have the shape of its weights {multiplied.shape}, not {real.shape}")
    used = grid_codes(f"{name}: the weights that its forward multiplies by", multiplied, step)
    notes = []
    if count := int((used != codes).sum()):
        notes.append(f"{name}: its forward multiplies by other codes than those of weight_q, {count} of {codes.size}")
    if before is not None and before.shape == real.shape and before.any():
        if count := int((np.rint(before / step) != codes).sum()):
            notes.append(f"{name}: weight_q held other codes before the run, {count} of {codes.size}")
    return Codes(codes, bits, True, step.ravel()), tuple(notes)


def _alphas(name: str, value: torch.Tensor | float, channels: int) -> Float32[np.ndarray, " scale"]:
    """Return one alpha, or one of each channel."""
    import torch

    alpha = _numpy(torch.as_tensor(value)).ravel()
    if alpha.size not in (1, channels):
        raise InputError(f"{name} must be one number{' or one of each oc' if channels > 1 else ''}, not {alpha.size}")
    if alpha.dtype != np.float32 or not (np.isfinite(alpha) & (alpha > 0)).all():
        raise InputError(f"{name} must be float32, finite and more than 0, not {alpha.dtype} {alpha.min()!s}")
    return alpha


def _ramp(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return inputs of the shape of `x`, as many as it takes: first 0 to alpha, then the whole range of `x`."""
    import torch

    images = -(-_RAMP // x[0].numel())
    half = images * x[0].numel() // 2
    inside = torch.linspace(0, alpha, half, device=x.device)
    around = torch.linspace(
        min(float(x.min()), 0.0), max(float(x.max()), alpha), images * x[0].numel() - half, device=x.device
    )
    return torch.cat([inside, around]).reshape(images, *x.shape[1:])


def _weight_ramp(name: str, module: torch.nn.Module, real: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return what `weight_quant` makes of a ramp, with its name; nothing where it cannot be called on weights alone."""
    import torch

    shape = (real.shape[0], *(1,) * (real.ndim - 2), -(-_RAMP // real.shape[0]))
    device = torch.as_tensor(module.weight_quant.wgt_alpha).device
    ramp = torch.linspace(-1, 1, int(np.prod(shape)), device=device).reshape(shape)
    try:
        return [(f"{name}: what weight_quant makes of a ramp", _numpy(module.weight_quant(ramp)))]
    except Exception:  # whatever the user's code raises: the weights that there are must do
        return []


@dataclass(frozen=True)
class _Product:
    """What a module's forward hands to torch's convolution or matrix product."""

    entering: Float[np.ndarray, "*_"]
    weight: Float[np.ndarray, "*_"]
    biased: bool
    geometry: Geometry | None


def _product(name: str, module: torch.nn.Module, x: torch.Tensor) -> _Product:
    """Call a module's forward on `x` and return the one product that it makes."""
    import torch
    from torch.overrides import TorchFunctionMode

    seen = []

    def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        seen.append((input, weight, bias, _sided(weight.shape[2:], stride, padding, dilation, groups)))

    def linear(input, weight, bias=None):
        seen.append((input, weight, bias, None))

    watched = {torch.conv2d: conv2d, torch.nn.functional.linear: linear}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in watched:
                watched[function](*args, **(kwargs or {}))
            return function(*args, **(kwargs or {}))

    with Watch():
        module.forward(x)
    if len(seen) != 1:
        raise InputError(f"{name}: its forward must call conv2d or linear once, not {len(seen)} times")
    entering, weight, bias, geometry = seen[0]
    if entering.shape != x.shape:
        raise InputError(
            f"{name}: its forward must keep its input's shape {tuple(x.shape)}, not {tuple(entering.shape)}"
        )
    return _Product(_numpy(entering), _numpy(weight), bias is not None and bool(bias.any()), geometry)


def _checked_bits(name: str, ramp: np.ndarray, entering: np.ndarray, alpha: np.float32) -> int:
    """Return the bits of the input's quantizer; raise InputError where it is not the notebook's formula."""
    what = f"{name}: what its forward makes of its input"
    inside = entering.ravel()[: entering.size // 2]
    bits = activation_bits(what, inside, alpha)
    levels = 2**bits - 1
    exact = np.minimum(ramp.astype(np.float64) / alpha, 1) * levels
    near = exact >= -(2**MOST_BITS)  # float32 has digits for these; codes below them are refused anyway
    codes = grid_codes(what, entering[near], alpha / np.float32(levels))
    off = np.abs(codes - exact[near])
    if off.max() > 0.5 + _BOUNDARY:
        at = int(off.argmax())
        raise InputError(
            f"{what} must be round(min(a / act_alpha, 1) * {levels}); at a = {ramp[near][at]!s} it is {codes[at]}, "
            f"not {exact[near][at]:.4g} rounded"
        )
    return bits


# Brevitas


def _read_brevitas(name: str, module: torch.nn.Module, x: torch.Tensor) -> ModuleCodes | str:
    """Take a module's `quant_weight()`, and the quantized tensor that enters it or that its `input_quant` makes."""
    import brevitas
    from brevitas.quant_tensor import QuantTensor

    kind = type(module).__name__
    if not module.weight_quant.is_quant_enabled:
        return f"{kind}: its weights are not quantized"
    entering = module.input_quant(x)
    if not isinstance(entering, QuantTensor):
        return f"{kind}: its input is not quantized; the layer before it must have return_quant_tensor=True"
    weights = module.quant_weight(entering)
    weight, weight_zero = _brevitas_codes(f"{name}: its weights", weights)
    activation, zero_point = _brevitas_codes(f"{name}: its input", entering)
    if activation.scale.size != 1 or zero_point.size != 1:
        raise InputError(f"{name}: its input must have one scale and one zero point, not {activation.scale.size}")
    bias, notes = None, ()
    if module.bias is not None and bool(module.bias.any()):
        bias = _brevitas_bias(module.bias_quant(module.bias, entering, weights), activation.scale * weight.scale)
        notes = () if bias is not None else (_without_bias(name),)
    return ModuleCodes(
        dataclasses.replace(weight, values=weight.values - weight_zero),
        dataclasses.replace(activation, zero_point=int(zero_point.item())),
        _geometry(name, module),
        f"Brevitas {brevitas.__version__}: value / scale + zero_point",
        bias,
        notes,
    )


def _brevitas_codes(name: str, tensor: torch.Tensor) -> tuple[Codes, Int64[np.ndarray, "*_"]]:
    """Return the codes of a quantized tensor, and its zero points, which broadcast to them."""
    from brevitas.quant_tensor import IntQuantTensor

    if not isinstance(tensor, IntQuantTensor):
        raise InputError(f"{name} must be integers of one scale, or of one for each oc, not a {type(tensor).__name__}")
    scale, zero_point, bits = (_numpy(x) for x in (tensor.scale, tensor.zero_point, tensor.bit_width))
    for what, values in (("scale", scale), ("zero point", zero_point)):
        if values.size > 1 and values.shape[0] != values.size:
            raise InputError(f"{name} must have one {what}, or one for each oc, not {what}s of shape {values.shape}")
    zero_point = grid_codes(f"{name}: its zero point", zero_point, 1.0)
    width = int(grid_codes(f"{name}: its bit width", bits, 1.0).max())
    codes = grid_codes(name, _numpy(tensor.value), scale, zero_point)
    return Codes(codes, width, tensor.signed, scale.ravel()), zero_point


def _brevitas_bias(bias: torch.Tensor, scale: Float[np.ndarray, " scale"]) -> Int32[np.ndarray, " oc"] | None:
    """Return a quantized bias in units of the accumulator, whose step is `scale`; None where it has another one."""
    if not hasattr(bias, "scale") or not np.allclose(_numpy(bias.scale).ravel(), scale, rtol=_SAME_SCALE, atol=0):
        return None
    codes = _numpy(bias.int())
    return codes.astype(np.int32) if np.abs(codes.astype(np.int64)).max() < 2**31 else None


def _without_bias(name: str) -> str:
    return f"{name}: its bias is no integer in units of the accumulator, which is without it"


# torch.ao.nn.quantized


def _read_ao(name: str, module: torch.nn.Module, x: torch.Tensor) -> ModuleCodes:
    """Take the integers of a module's packed weights and of the quantized tensor that enters it."""
    import torch

    weights = module.weight()
    for what, tensor, dtypes in (("input", x, ("quint8", "qint8")), ("weights", weights, ("qint8",))):
        found = str(tensor.dtype).removeprefix("torch.")
        if found not in dtypes:
            raise InputError(f"{name}: its {what} must be {' or '.join(dtypes)}, not {found}")
    if x.qscheme() != torch.per_tensor_affine:
        raise InputError(f"{name}: its input must have one scale, not be of scheme {x.qscheme()}")
    if weights.qscheme() == torch.per_channel_affine and weights.q_per_channel_axis() == 0:
        scale, zeros = _numpy(weights.q_per_channel_scales()), _numpy(weights.q_per_channel_zero_points())
    elif weights.qscheme() == torch.per_tensor_affine:
        scale, zeros = np.array([weights.q_scale()]), np.array([weights.q_zero_point()])
    else:
        raise InputError(
            f"{name}: its weights must have one scale, or one for each oc, not be of scheme {weights.qscheme()}"
        )
    integers = _numpy(weights.int_repr()).astype(np.int64)
    weight = Codes(integers - zeros.reshape(-1, *(1,) * (integers.ndim - 1)), 8, True, scale)
    activation = Codes(_numpy(x.int_repr()), 8, x.dtype == torch.qint8, np.array([x.q_scale()]), x.q_zero_point())
    bias = module.bias()
    return ModuleCodes(
        weight,
        activation,
        _geometry(name, module),
        "torch.ao.nn.quantized: int_repr() of weights and input",
        notes=() if bias is None or not bool(bias.any()) else (_without_bias(name),),
    )
