"""HED: edges from all depths of VGG-16 (Xie and Tu 2015)."""

import lazy_loader as lazy

from shared import layers

from .blocks import conv_relu
from .specs import Spec, Tap

keras = lazy.load("keras")

# Convolutions and channels of each block: VGG-16.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def hed(x, classes, *, blocks=_BLOCKS):
    """Yield the taps of a holistically-nested edge detector.

    Every block has a side output: a 1x1 convolution, enlarged bilinearly to the size of the
    picture. A last 1x1 convolution mixes them.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Edge maps; the paper has one.
        blocks: Convolutions and channels of each block.
    """
    picture, ends = x, []
    for block, (repeats, channels) in enumerate(blocks, 1):
        if block > 1:
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(x)
            yield f"pool{block - 1}", x
        for i in range(1, repeats + 1):
            x = conv_relu(x, channels, 3, name=f"block{block}_conv{i}")
            yield f"conv{block}_{i}", x
        ends.append(x)
    sides = []
    for block, end in enumerate(ends, 1):
        side = keras.layers.Conv2D(classes, 1, name=f"side{block}")(end)
        if block > 1:
            side = layers.ResizeLike(name=f"side{block}_enlarged")([side, picture])
        sides.append(side)
        yield f"side{block}", side
    x = keras.layers.Concatenate(name="sides")(sides)
    x = keras.layers.Conv2D(classes, 1, name="fuse")(x)
    yield "edges", keras.layers.Activation("sigmoid", dtype="float32", name="edges")(x)


def _taps():
    for block, (repeats, channels) in enumerate(_BLOCKS, 1):
        stride = 2 ** (block - 1)
        if block > 1:
            yield Tap(f"pool{block - 1}", stride, _BLOCKS[block - 2][1])
        for i in range(1, repeats + 1):
            yield Tap(f"conv{block}_{i}", stride, channels)
    yield from (Tap(f"side{block}", 1, 1) for block in range(1, len(_BLOCKS) + 1))
    yield Tap("edges", 1, 1)


SPECS = (
    Spec(
        name="vgg16_hed",
        build=hed,
        paper="Xie and Tu 2015, arXiv:1504.06375",
        table="figure 3 and section 3; the blocks of VGG-16",
        size=320,
        classes=1,
        preprocessing="hed",
        parameters=14_716_171,
        gmacs=31.33,
        body="conv5_3",
        taps=tuple(_taps()),
        minimum=1,
        crop=1.0,
        note=(
            "Side outputs are enlarged by bilinear interpolation, where the paper learns "
            "deconvolutions that start as it."
        ),
    ),
)
