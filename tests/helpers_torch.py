"""PyTorch models for the tests: modules with the attributes of the notebook's, and networks of them."""

import numpy as np
import torch
from torch import nn

from factory.spec import part1, part2

MEAN, STD = (torch.tensor(x).reshape(3, 1, 1) for x in ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))


class WeightQuantizer(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.levels = 2 ** (bits - 1) - 1
        self.wgt_alpha = nn.Parameter(torch.tensor(3.0))

    def forward(self, weight):
        x = ((weight - weight.mean()) / weight.std() / self.wgt_alpha).clamp(-1, 1)
        return (x.abs() * self.levels).round() / self.levels * x.sign() * self.wgt_alpha


class Quantized:
    """What a convolution and a linear module have in common; `super` is one of the two."""

    def __init__(self, *args, weight_bits=4, activation_bits=4, bias=False, **kwargs):
        super().__init__(*args, bias=bias, **kwargs)
        self.levels = 2**activation_bits - 1
        self.weight_quant = WeightQuantizer(weight_bits)
        self.act_alpha = nn.Parameter(torch.tensor(8.0))
        self.weight_q = nn.Parameter(torch.zeros_like(self.weight))

    def quantize(self, x):
        return (x.div(self.act_alpha).clamp(max=1) * self.levels).round() / self.levels * self.act_alpha

    def multiply(self, x, weight):
        if isinstance(self, nn.Linear):
            return nn.functional.linear(x, weight, self.bias)
        return self._conv_forward(x, weight, self.bias)

    def forward(self, x):
        self.weight_q = nn.Parameter(self.weight_quant(self.weight))
        return self.multiply(self.quantize(x), self.weight_q)


class NotebookConv2d(Quantized, nn.Conv2d):
    pass


class NotebookLinear(Quantized, nn.Linear):
    pass


class Vgg(nn.Module):
    def __init__(self, network):
        super().__init__()
        steps = []
        for spec in network.layers:
            bits = dict(weight_bits=spec.weight_bits, activation_bits=spec.activation_bits)
            steps.append(NotebookConv2d(spec.in_channels, spec.out_channels, 3, padding=1, **bits))
            steps += [nn.BatchNorm2d(spec.out_channels)] if spec.batch_norm else []
            steps += [nn.ReLU(inplace=True)]
            steps += [nn.MaxPool2d(spec.pool)] if spec.pool > 1 else []
        self.features = nn.Sequential(*steps)
        self.classifier = nn.Linear(512, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Block(nn.Module):
    def __init__(self, ic, oc, stride):
        super().__init__()
        self.conv1, self.bn1 = NotebookConv2d(ic, oc, 3, stride, 1), nn.BatchNorm2d(oc)
        self.conv2, self.bn2 = NotebookConv2d(oc, oc, 3, 1, 1), nn.BatchNorm2d(oc)
        self.downsample = nn.Sequential()
        if stride != 1:
            self.downsample = nn.Sequential(NotebookConv2d(ic, oc, 1, stride), nn.BatchNorm2d(oc))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class Resnet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for place in (1, 2, 3):
            ic, oc = widths[place - 1 : place + 1]
            blocks = [Block(ic if first else oc, oc, 2 if first and place > 1 else 1) for first in (True, False, False)]
            setattr(self, f"layer{place}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.fc(x.mean((2, 3)))


MODELS = {
    "w4a4": (lambda: Vgg(part1()), "model_best.pth.tar"),
    "w4a2": (lambda: Vgg(part2()), "model_part2.pth.tar"),
    "resnet20": (Resnet20, "resnet20_quant.pth.tar"),
}


def reference_model(folder, name):
    """Return a reference network with its trained tensors, and its pixels as torch takes them."""
    make, file = MODELS[name]
    model = make()
    model.load_state_dict(torch.load(folder / file, map_location="cpu", weights_only=True)["state_dict"])
    with np.load(folder / f"reference_{name}.npz") as arrays:
        expected = dict(arrays)
    return model, (torch.from_numpy(expected["pixels"]) / 255 - MEAN) / STD, expected


def plain_accumulator(layer):
    """Return `sum(weight * activation)` of a captured layer by plain loops over output pixels and kernel positions."""
    spec, weight = layer.spec, layer.weight.astype(np.int64)
    top, left, bottom, right = spec.padding
    codes = np.pad(
        layer.activation.astype(np.int64),
        ((0, 0), (0, 0), (top, bottom), (left, right)),
        constant_values=spec.zero_point,
    )
    out = np.zeros((len(codes), spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for y in range(spec.out_height):
        for x in range(spec.out_width):
            for ki in range(spec.kernel[0]):
                for kj in range(spec.kernel[1]):
                    at = (y * spec.stride[0] + ki * spec.dilation[0], x * spec.stride[1] + kj * spec.dilation[1])
                    out[:, :, y, x] += codes[:, :, at[0], at[1]] @ weight[:, :, ki, kj].T
    return out
