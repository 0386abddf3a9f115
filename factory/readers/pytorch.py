"""Networks captured from a PyTorch model: run once, the integer weights and inputs of its quantized modules taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.quant.grid import MOST_BITS
from factory.readers.arrays import dense
from factory.readers.torch_modules import Codes, Geometry, ModuleCodes, Reader, reader_of
from factory.spec import GIVEN, CodedLayer, CodedNetwork, ConvLayer, InputError, Range

if TYPE_CHECKING:
    import torch


def read_model(
    model: torch.nn.Module, images: torch.Tensor | np.ndarray, *, layers: str | Collection[str] | None = None
) -> CodedNetwork:
    """Run `model` once on `images`, `(image, ...)` as it takes them, and return the codes of its quantized layers.

    A layer is a call of a convolution or a linear module that carries the notebook's `weight_q`, `act_alpha` and
    `weight_quant.wgt_alpha`, or is Brevitas' `QuantConv2d` or `QuantLinear`, or is of `torch.ao.nn.quantized`. It is
    called as in `model.named_modules()`; a later call of the same module is called `name.1`, `name.2`. `layers` names
    the modules to take (with commas, or a list); None is all. The model runs in eval mode, without gradients, and gets
    back the mode it had; a module of the notebook's is also called on a ramp, which shows its bits.

    Raise InputError where a quantized module's tensors are no integers of up to 8 bits on one grid, and where the model
    does not run. Modules that are not quantized, or that are never called, are in `skipped`, with the reason.
    """
    import torch

    if isinstance(model, torch.nn.DataParallel):
        model = model.module
    batch = torch.as_tensor(images)
    if batch.ndim < 2 or not batch.numel():
        raise InputError(f"images must be an array (image, ...) of at least one image, not {tuple(batch.shape)}")
    capture = _Capture(type(model).__name__, _readers(model, layers), len(batch))
    with capture.hooked(), _evaluating(model), torch.no_grad():
        try:
            model(batch.to(_device(model)))
        except InputError:
            raise
        except Exception as error:
            form = f"images of {str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise InputError(f"the model must run on {form}, not raise {why}") from error
    return capture.network()


def _readers(
    model: torch.nn.Module, layers: str | Collection[str] | None
) -> dict[str, tuple[torch.nn.Module, Reader | str]]:
    """Return each convolution and linear module by name, with its reader or the reason why it has none."""
    named = {name or type(model).__name__: module for name, module in model.named_modules()}
    found = {name: (module, reader) for name, module in named.items() if (reader := reader_of(module)) is not None}
    if layers is None:
        return found
    chosen = layers.split(",") if isinstance(layers, str) else layers
    for name in chosen:
        if name not in found:
            raise InputError(f"layers must be of {' '.join(found)}, not {name}")
    return {name: entry for name, entry in found.items() if name in chosen}


def _device(model: torch.nn.Module) -> Any:
    """Return the device of the first parameter or buffer; the host's where a model has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return "cpu"


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a model in eval mode for a while; each module gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class _Capture:
    """What the hooks of one run find: `layers` in the order of the calls, and what was skipped."""

    def __init__(self, title: str, readers: dict[str, tuple[torch.nn.Module, Reader | str]], images: int):
        self.title, self.images = title, images
        self.skipped = {name: reader for name, (_, reader) in readers.items() if isinstance(reader, str)}
        self.readers = {name: entry for name, entry in readers.items() if name not in self.skipped}
        self.layers: dict[str, CodedLayer] = {}
        self.notes: list[str] = []

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Take the input of every call that is made within."""
        handles = [
            module.register_forward_pre_hook(partial(self._take, name), with_kwargs=True)
            for name, (module, _) in self.readers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _take(self, module_name: str, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Take the codes of one call of a module."""
        name = self._call_name(module_name)
        x = args[0] if args else next(iter(kwargs.values()))
        if len(x.shape) < 2 or x.shape[0] != self.images:
            self.skipped[name] = f"its input must be of {self.images} images, not {tuple(x.shape)}"
            return
        found = self.readers[module_name][1](name, module, x)
        if isinstance(found, str):
            self.skipped[name] = found
            return
        axes = _MATRIX_AXES if found.geometry is None else _MAP_AXES
        if len(x.shape) not in axes:
            self.skipped[name] = f"its input must be {' or '.join(axes.values())}, not {tuple(x.shape)}"
            return
        self.layers[name], notes = _coded_layer(name, found)
        self.notes += [*found.notes, *notes]

    def _call_name(self, module_name: str) -> str:
        """Return a module's name, with the number of the call where it is not the first."""
        name, call = module_name, 0
        while name in self.layers or name in self.skipped or (call and name in self.readers):
            call += 1
            name = f"{module_name}.{call}"
        if call:
            self.notes.append(f"{name}: another call of {module_name}")
        return name

    def network(self) -> CodedNetwork:
        """Return what was taken."""
        called = {*self.layers, *self.skipped}
        skipped = self.skipped | {name: "the model does not call it" for name in self.readers if name not in called}
        if not self.layers:
            why = "".join(f"; {name}: {reason}" for name, reason in list(skipped.items())[:3])
            raise InputError(f"{self.title} must have a module with integer weights and a quantized input{why}")
        images = tuple(f"captured {self.title} {place}" for place in range(self.images))
        return CodedNetwork(self.title, tuple(self.layers.values()), images, skipped, tuple(self.notes))


_MAP_AXES = {4: "(image, ic, y, x)"}
_MATRIX_AXES = {2: "(image, in)", 3: "(image, token, in)"}


def _coded_layer(name: str, found: ModuleCodes) -> tuple[CodedLayer, list[str]]:
    """Return the layer of a call, and a note where its codes take more bits than the quantizer has."""
    import torch

    weight, activation, geometry = found.weight.values, found.activation.values, found.geometry
    if geometry is None:
        weight = weight[:, :, None, None]
        activation = activation.reshape(len(activation), 1, -1, activation.shape[-1]).transpose(0, 3, 1, 2)
        geometry = Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1)
    weight = dense(weight.astype(np.int64), geometry.groups)
    signed = found.activation.signed or bool(activation.min() < 0)
    bits = _bits(f"{name}: activation codes", found.activation, signed)
    spec = ConvLayer(
        name, GIVEN, weight.shape[1], weight.shape[0], *activation.shape[2:], kernel=weight.shape[2:],
        weight_bits=_bits(f"{name}: weight codes", found.weight, True), activation_bits=bits, signed=signed,
        batch_norm=False, zero_point=found.activation.zero_point, **dataclasses.asdict(geometry),
    )  # fmt: skip
    layer = CodedLayer(
        spec,
        np.ascontiguousarray(weight.astype(np.int8)),
        np.ascontiguousarray(activation.astype(np.int8 if signed else np.uint8)),
        f"PyTorch {torch.__version__}, {found.formula}",
        found.bias,
        found.weight.scale.astype(np.float32),
        float(found.activation.scale[0]),
    )
    if bits == found.activation.bits:
        return layer, []
    held = f"{activation.min()}..{activation.max()} take {bits} bits in two's complement"
    return layer, [f"{name}: activation codes {held}, its quantizer has {found.activation.bits}"]


def _bits(name: str, codes: Codes, signed: bool) -> int:
    """Return the quantizer's bits, or as many as its codes take in two's complement where they are more."""
    found = Range.of(codes.values)
    bits = max(codes.bits, found.bits - 1 + signed)
    if bits > MOST_BITS:
        raise InputError(f"{name} must have at most {MOST_BITS} bits, not {bits}: {found.low}..{found.high}")
    return bits
