"""NASNet-A: cells found by search (Zoph, Vasudevan, Shlens and Le 2018).

A cell combines its input with that of the cell before, which is called p. Layer names are those of
Keras.
"""

import lazy_loader as lazy

from .blocks import classifier
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")


def nasnet(x, classes, *, repeats, filters, stem, skip):
    """Yield the taps of a NASNet-A.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        repeats: Normal cells of each of the three stages, N in the paper.
        filters: Channels in front of the classifier, a multiple of 96.
        stem: Channels of the first convolution.
        skip: Behind a reduction, p is the input of the last cell in front of it instead of the
            input of the reduction, as in the large network.
    """
    channels = filters // 24
    x = keras.layers.Conv2D(
        stem, 3, 2, use_bias=False, kernel_initializer="he_normal", name="stem_conv1"
    )(x)
    x = _bn(x, "stem_bn1")
    yield "stem", x
    # The side of p differs from the cell's input behind a reduction, and nowhere else.
    x, p = _reduction(x, x, channels // 4, "stem_1"), x
    yield "stage1", x
    x, p = _reduction(x, _halve(p, channels // 2, "stem_2"), channels // 2, "stem_2"), x
    yield "stage2.entry", x
    for stage in range(3):
        if stage:
            name = f"reduce_{stage * repeats}"
            entry = x
            x = _reduction(x, _project(p, channels, name), channels, name)
            p = p if skip else entry
            yield f"stage{stage + 2}.entry", x
        for i in range(repeats):
            name = str(stage * repeats + i + (stage > 0))
            adjusted = (_project if i else _halve)(p, channels, name)
            x, p = _normal(x, adjusted, channels, name), x
            yield f"stage{stage + 2}.block{i + 1}", x
        if stage < 2:
            yield f"stage{stage + 2}", x
        channels *= 2
    x = keras.layers.Activation("relu", name="relu")(x)
    yield "stage4", x
    yield from classifier(x, classes)


def _normal(x, p, channels, name):
    """Return a cell that keeps the size of the map: six times `channels` (figure 4, left)."""
    h = _squeeze(x, channels, "normal", name)

    def average(y, place):
        return keras.layers.AveragePooling2D(3, 1, "same", name=f"normal_{place}_{name}")(y)

    def separable(y, kernel, place):
        return _separable_twice(y, channels, kernel, 1, f"normal_{place}_{name}")

    pairs = (
        (separable(h, 5, "left1"), separable(p, 3, "right1")),
        (separable(p, 5, "left2"), separable(p, 3, "right2")),
        (average(h, "left3"), p),
        (average(p, "left4"), average(p, "right4")),
        (separable(h, 3, "left5"), h),
    )
    sums = [
        keras.layers.Add(name=f"normal_add_{i}_{name}")(pair) for i, pair in enumerate(pairs, 1)
    ]
    return keras.layers.Concatenate(name=f"normal_concat_{name}")([p, *sums])


def _reduction(x, p, channels, name):
    """Return a cell that halves the map: four times `channels` (figure 4, right)."""
    h = _squeeze(x, channels, "reduction", name)

    def separable(y, kernel, stride, place):
        return _separable_twice(y, channels, kernel, stride, f"reduction_{place}_{name}")

    def add(pair, number):
        return keras.layers.Add(name=f"reduction_add_{number}_{name}")(pair)

    # All three pools count zeros beyond the border. The zeros stand as in `same`: two rows around
    # the map leave its parity alone, and one of the pooled map is cut off again.
    wide = keras.layers.ZeroPadding2D(2, name=f"reduction_pad_1_{name}")(h)

    def pool(kind, place):
        place = f"reduction_{place}_{name}"
        y = getattr(keras.layers, f"{kind}Pooling2D")(3, 2, "same", name=place)(wide)
        return keras.layers.Cropping2D(1, name=f"{place}_crop")(y)

    x1 = add((separable(h, 5, 2, "left1"), separable(p, 7, 2, "right1")), 1)
    x2 = add((pool("Max", "left2"), separable(p, 7, 2, "right2")), 2)
    x3 = add((pool("Average", "left3"), separable(p, 5, 2, "right3")), 3)
    x4 = keras.layers.AveragePooling2D(3, 1, "same", name=f"reduction_left4_{name}")(x1)
    x4 = add((x2, x4), 4)
    x5 = add((separable(x1, 3, 1, "left4"), pool("Max", "right5")), 5)
    return keras.layers.Concatenate(name=f"reduction_concat_{name}")([x2, x3, x4, x5])


def _bn(x, name):
    return keras.layers.BatchNormalization(momentum=0.9997, epsilon=1e-3, name=name)(x)


def _pointwise(x, channels, name):
    return keras.layers.Conv2D(
        channels, 1, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def _squeeze(x, channels, cell, name):
    x = keras.layers.Activation("relu", name=f"{cell}_relu_1_{name}")(x)
    return _bn(_pointwise(x, channels, f"{cell}_conv_1_{name}"), f"{cell}_bn_1_{name}")


def _separable_twice(x, channels, kernel, stride, name):
    for i, step in enumerate((stride, 1), 1):
        prefix = f"separable_conv_{i}"
        x = keras.layers.Activation("relu", name=f"{prefix}_relu_{name}")(x)
        x = keras.layers.SeparableConv2D(
            channels, kernel, step, "same", use_bias=False, name=f"{prefix}_{name}"
        )(x)
        x = _bn(x, f"{prefix}_bn_{name}")
    return x


def _project(p, channels, name):
    """Bring p to a number of channels."""
    if p.shape[-1] == channels:
        return p
    p = keras.layers.Activation("relu", name=f"adjust_relu_1_{name}")(p)
    return _bn(_pointwise(p, channels, f"adjust_conv_projection_{name}"), f"adjust_bn_{name}")


def _halve(p, channels, name):
    """Bring p to half its size without losing every other row: half the channels see odd rows."""
    p = keras.layers.Activation("relu", name=f"adjust_relu_1_{name}")(p)
    odd = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"adjust_pad_2_{name}")(p)
    odd = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"adjust_crop_2_{name}")(odd)
    halves = []
    for i, y in enumerate((p, odd), 1):
        y = keras.layers.AveragePooling2D(1, 2, name=f"adjust_avg_pool_{i}_{name}")(y)
        halves.append(_pointwise(y, channels // 2, f"adjust_conv_{i}_{name}"))
    return _bn(keras.layers.Concatenate(name=f"adjust_concat_{name}")(halves), f"adjust_bn_{name}")


def _taps(repeats, filters, stem):
    channels = filters // 24
    yield from (Tap("stem", 2, stem), Tap("stage1", 4, channels))
    for stage in (2, 3, 4):
        # The reductions in front have half as many filters as their stage in the stem, else equal.
        yield Tap(f"stage{stage}.entry", 2 ** (stage + 1), (2 if stage == 2 else 4) * channels)
        for i in range(1, repeats + 1):
            yield Tap(f"stage{stage}.block{i}", 2 ** (stage + 1), 6 * channels)
        yield Tap(f"stage{stage}", 2 ** (stage + 1), 6 * channels)
        channels *= 2
    yield from vector_taps(filters)


SPECS = tuple(
    Spec(
        name=name,
        build=nasnet,
        variant={"repeats": repeats, "filters": filters, "stem": stem, "skip": skip},
        paper="Zoph, Vasudevan, Shlens and Le 2018, arXiv:1707.07012",
        table=f"figure 4; table 2, NASNet-A ({repeats} @ {filters})",
        size=size,
        preprocessing="tf",
        parameters=parameters,
        statistics=statistics,
        gmacs=gmacs,
        body="stage4",
        taps=tuple(_taps(repeats, filters, stem)),
        minimum=3,
        twin=twin,
        note="As in Keras, without ScheduledDropPath and auxiliary classifier.",
    )
    for name, repeats, filters, stem, skip, size, parameters, statistics, gmacs, twin in (
        ("nasnet_mobile", 4, 1056, 32, False, 224, 5_289_978, 36_738, 0.564, "NASNetMobile"),
        ("nasnet_large", 6, 4032, 96, True, 331, 88_753_150, 196_668, 23.78, "NASNetLarge"),
    )
)
