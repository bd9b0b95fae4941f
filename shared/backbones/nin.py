"""Network in Network: each convolution is followed by a small perceptron (Lin et al. 2013)."""

import lazy_loader as lazy

from shared import layers

from .blocks import class_maps, conv_relu
from .specs import Spec, Tap

keras = lazy.load("keras")

# Kernel, stride, padding, channels of the convolution and of the perceptron (None: classes), pool
# that follows, dropout behind it.
_IMAGENET = (
    (11, 4, "valid", (96, 96, 96), "max", False),
    (5, 1, "same", (256, 256, 256), "max", False),
    (3, 1, "same", (384, 384, 384), "max", True),
    (3, 1, "same", (1024, 1024, None), None, False),
)
_CIFAR = (
    (5, 1, "same", (192, 160, 96), "max", True),
    (5, 1, "same", (192, 192, 192), "avg", True),
    (3, 1, "same", (192, 192, None), None, False),
)


def nin(x, classes, *, blocks):
    """Yield the taps of a Network in Network; layer names as in the authors' Caffe model.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Maps of the last layer.
        blocks: Rows of kernel, stride, padding, channels, pool, dropout; see the tables above.
    """
    for i, (kernel, stride, padding, channels, pool, dropout) in enumerate(blocks, 1):
        x = conv_relu(x, channels[0], kernel, stride, padding, name=f"conv{i}")
        yield f"conv{i}_1", x
        for j in (1, 2):
            x = conv_relu(x, channels[j] or classes, 1, name=f"cccp{2 * i - 2 + j}")
            yield f"conv{i}_{j + 1}", x
        if pool:
            x = layers.CeilPool(3, 2, mode=pool, name=f"pool{i}")(x)
            yield f"pool{i}", x
        if dropout:
            x = keras.layers.Dropout(0.5, name=f"drop{i}")(x)
    yield from class_maps(x)


def _taps(blocks, classes):
    total = 1
    for i, (_, stride, _, channels, pool, _) in enumerate(blocks, 1):
        total *= stride
        for j in range(3):
            yield Tap(f"conv{i}_{j + 1}", total, channels[j] or classes)
        if pool:
            total *= 2
            yield Tap(f"pool{i}", total, channels[2])
    yield from (Tap("logits", 0, classes), Tap("probs", 0, classes))


_PAPER = "Lin, Chen and Yan 2013, arXiv:1312.4400"

SPECS = (
    Spec(
        name="nin",
        build=nin,
        variant={"blocks": _IMAGENET},
        paper=_PAPER,
        table="the authors' Caffe model for ImageNet",
        size=224,
        preprocessing="caffe",
        parameters=7_595_176,
        gmacs=1.100,
        body="conv4_2",
        taps=tuple(_taps(_IMAGENET, 1000)),
        minimum=39,
        note="The last layer has a ReLU, too: logits are never negative.",
    ),
    Spec(
        name="nin_cifar",
        build=nin,
        variant={"blocks": _CIFAR},
        paper=_PAPER,
        table="figure 2, channels of the authors' Caffe model for CIFAR-10",
        size=32,
        classes=10,
        preprocessing="unit",
        parameters=966_986,
        gmacs=0.223,
        body="conv3_2",
        taps=tuple(_taps(_CIFAR, 10)),
        minimum=4,
        crop=1.0,
        note="The paper whitens the pictures; this takes mean and standard deviation per channel.",
    ),
)
