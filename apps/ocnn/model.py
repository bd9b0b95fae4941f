"""The networks: classification (`lenet`, `resnet`) and segmentation (`segnet`, `unet`).

Sources: Wang et al. 2017, "O-CNN" (`lenet`, and `segnet` with one channel set); `resnet`, `unet`
and the second `segnet` as in the authors' later package `ocnn`. Inputs are named tables, see
`inputs`; layers are named by their level, the leaves having the highest.
"""

import keras
from keras import layers

from shared.errors import ConvsuiteError

from .layers import (
    NEIGHBOURS,
    SIBLINGS,
    OctreeConv,
    OctreeDeconv,
    OctreeGlobalAverage,
    OctreeInterpolation,
    OctreeMaxPool,
    OctreeMaxUnpool,
    OctreeNormalization,
    OctreeRows,
    OctreeVoxels,
    PoseMax,
)
from .octree import FULL_DEPTH, LARGEST_DEPTH, SMALLEST_DEPTH

UNET_ENCODER = ((32, 2), (64, 3), (128, 4), (256, 6))
"""Channels and residual blocks, from the second finest level up."""
UNET_DECODER = ((256, 2), (128, 2), (96, 2), (96, 2))
"""The same, down to the leaves."""


def lenet(depth, channels=3, classes=40, *, nonempty=False, dropout=0.5, least=2):
    """Build O-CNN(depth), the classification network of the paper.

    Args:
        depth: Level of the leaves, 3 to 10.
        channels: Of the input features; 3 are normals.
        classes: Number of classes.
        nonempty: Convolve over nodes that contain points only.
        dropout: Share of features dropped before each of the two dense layers.
        least: Fewest channels of a level; 4 in `ocnn`, which differs from depth 8 on.

    Returns:
        A functional model, tables -> logits `(shapes, classes)`, float32.
    """
    net = _Net(depth, nonempty)
    x = net.features(channels)
    for level in net.levels():
        x = net.conv(x, _width(level, 1, least), level, f"conv{level}")
        x = net.pool(x, level)
    x = OctreeVoxels(nonempty=nonempty, name="voxels")(x, net.table("children", FULL_DEPTH))
    x = layers.Flatten(name="flat")(x)
    return net.model(head(x, classes, dropout), "lenet")


def head(x, classes, dropout=0.5):
    """Return the logits of a LeNet, given its features as vectors."""
    x = layers.Dropout(dropout, name="drop1")(x)
    x = _Net.dense(x, 128, "fc1")
    x = layers.Dropout(dropout, name="drop2")(x)
    return _logits(x, classes)


def pooled(network, classes):
    """Build the retrieval network of the paper (section 5.2) on a trained LeNet.

    Args:
        network: From `lenet`; its layers are shared.
        classes: Number of classes.

    Returns:
        A functional model, tables of all poses of one shape -> logits `(1, classes)`; the largest
        of each feature over the poses goes through dense layers of its own.
    """
    x = PoseMax(name="poses")(network.get_layer("flat").output)
    return keras.Model(network.input, head(x, classes), name="pooled")


def resnet(depth, channels=3, classes=40, *, blocks=3, nonempty=False, dropout=0.5):
    """Build the residual classification network.

    Args:
        depth: Level of the leaves, 3 to 10.
        channels: Of the input features.
        classes: Number of classes.
        blocks: Bottleneck blocks per level.
        nonempty: Convolve over nodes that contain points only.
        dropout: Share of features dropped before the last layer.

    Returns:
        A functional model, tables -> logits `(shapes, classes)`, float32.
    """
    net = _Net(depth, nonempty)
    x = net.conv(net.features(channels), _width(depth, 4), depth, f"conv{depth}")
    x = net.pool(x, depth)
    for level in net.levels()[1:]:
        for block in range(blocks):
            x = _bottleneck(net, x, _width(level, 4), level, f"res{level}_{block + 1}")
        x = net.pool(x, level)
    x = OctreeGlobalAverage(nonempty=nonempty, name="average")(x, net.table("children", FULL_DEPTH))
    x = net.dense(x, 512, "fc1")
    x = layers.Dropout(dropout, name="drop1")(x)
    return net.model(_logits(x, classes), "resnet")


def segnet(depth, channels=3, classes=2, *, width=1, skips=False, points=False, nonempty=False):
    """Build the encoder and decoder network for segmentation.

    Args:
        depth: Level of the leaves, 3 to 10.
        channels: Of the input features.
        classes: Number of parts.
        width: 1 are the channels of the paper, 2 those of `ocnn`.
        skips: Hand the maps of the encoder over to the decoder, which the paper does not.
        points: Answer at query points (as `ocnn`) instead of in the leaves that contain points.
        nonempty: Convolve over nodes that contain points only.

    Returns:
        A functional model, tables -> logits `(leaves or points, classes)`, float32.
    """
    net = _Net(depth, nonempty, initializer="he_normal")
    x, before, places = net.features(channels), {}, {}
    for level in net.levels():
        x = before[level] = net.conv(x, _width(level, width), level, f"conv{level}")
        x, places[level] = net.pool(x, level, places=True)
    x = net.conv(x, _width(FULL_DEPTH + 1, width), FULL_DEPTH, f"conv{FULL_DEPTH}")
    for level in reversed(net.levels()):
        x = OctreeMaxUnpool(nonempty=nonempty, name=f"unpool{level}")(
            x, places[level], net.born(level)
        )
        if skips:
            x = layers.Concatenate(name=f"skip{level}")([x, before[level]])
        # The finest level has no finer one whose channels it could prepare.
        filters = _width(min(level + 1, depth), width)
        x = net.conv(x, filters, level, f"deconv{level}")
    return net.model(net.segmentation(x, classes, 64 if points else None, points), "segnet")


def unet(depth, channels=3, classes=2, *, width=1.0, points=False, nonempty=False):
    """Build O-UNet: residual blocks, four levels down and up again, maps handed over.

    Args:
        depth: Level of the leaves, 5 to 10.
        channels: Of the input features.
        classes: Number of parts.
        width: Channel multiplier; 0.5 needs a quarter of the multiplications.
        points: Answer at query points instead of in the leaves that contain points.
        nonempty: Convolve over nodes that contain points only.

    Returns:
        A functional model, tables -> logits `(leaves or points, classes)`, float32.

    Raises:
        ConvsuiteError: The depth is outside 5..10.
    """
    coarsest = depth - len(UNET_ENCODER)
    if coarsest < 1:
        raise ConvsuiteError(f"O-UNet of depth {depth} has no levels to go up; take 5 or more.")
    net = _Net(depth, nonempty)

    def wide(filters):
        return round(filters * width)

    maps = {depth: net.conv(net.features(channels), wide(32), depth, f"conv{depth}")}
    for level, (filters, blocks) in zip(range(depth, coarsest, -1), UNET_ENCODER, strict=True):
        above = level - 1
        x = net.down(maps[level], wide(filters), level, f"down{above}")
        for block in range(blocks):
            x = _basic(net, x, wide(filters), above, f"encoder{above}_{block + 1}")
        maps[above] = x
    for level, (filters, blocks) in zip(range(coarsest + 1, depth + 1), UNET_DECODER, strict=True):
        x = net.up(x, wide(filters), level, f"up{level}")
        x = layers.Concatenate(name=f"skip{level}")([maps[level], x])
        for block in range(blocks):
            x = _basic(net, x, wide(filters), level, f"decoder{level}_{block + 1}")
    return net.model(net.segmentation(x, classes, wide(64), points), "unet")


def _width(level, factor, least=4):
    """Return the channels of a level: the paper's, 64 at level 3 and half of it below, times."""
    return max(round(factor * 2.0 ** (9 - level)), least)


def _logits(x, classes):
    # Small differences between classes would drown in bfloat16.
    return layers.Dense(classes, dtype="float32", name="logits")(x)


def _bottleneck(net, x, filters, level, name):
    """1 x 1 x 1 to a quarter, 3 x 3 x 3, 1 x 1 x 1, added to the input."""
    mask = net.table("mask", level)
    y = net.dense(x, filters // 4, f"{name}_conv1", mask)
    y = net.conv(y, filters // 4, level, f"{name}_conv2")
    y = net.dense(y, filters, f"{name}_conv3", mask, relu=False)
    return _added(net, x, y, mask, name)


def _basic(net, x, filters, level, name):
    """Two 3 x 3 x 3, added to the input."""
    y = net.conv(x, filters, level, f"{name}_conv1")
    y = net.conv(y, filters, level, f"{name}_conv2", relu=False)
    return _added(net, x, y, net.table("mask", level), name)


def _added(net, x, y, mask, name):
    if x.shape[-1] != y.shape[-1]:
        x = net.dense(x, y.shape[-1], f"{name}_shortcut", mask, relu=False)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_sum")([y, x]))


class _Net:
    """A network in the making: its inputs, created when first wanted, and its usual steps."""

    def __init__(self, depth, nonempty, initializer="glorot_uniform"):
        if not SMALLEST_DEPTH <= depth <= LARGEST_DEPTH:
            raise ConvsuiteError(
                f"A network for octrees of depth {depth} cannot be built; choose "
                f"{SMALLEST_DEPTH} to {LARGEST_DEPTH}."
            )
        self.depth = depth
        self.options = {"nonempty": nonempty}
        self.nonempty = nonempty
        self.initializer = initializer
        self.inputs = {}

    def levels(self):
        """Return the levels below the full one, the finest first."""
        return range(self.depth, FULL_DEPTH, -1)

    def model(self, output, name):
        """Return the finished network."""
        return keras.Model(self.inputs, output, name=name)

    def features(self, channels):
        """Return the input features."""
        return self._input("features", (channels,), "float32")

    def table(self, kind, level):
        """Return a table of a level."""
        shape = (NEIGHBOURS,) if kind == "neighbours" else ()
        return self._input(f"{kind}{level}", shape, "bool" if kind == "mask" else "int32")

    def _input(self, name, shape, dtype):
        if name not in self.inputs:
            self.inputs[name] = keras.Input(shape, dtype=dtype, name=name)
        return self.inputs[name]

    def born(self, level):
        """Return the table with which rows of the level above become rows of a level."""
        return self.table("nonempty", level if self.nonempty else level - 1)

    def _grouped(self, level):
        """Return the table with which siblings of a level become rows of the level above."""
        return self.table("children", level if self.nonempty else level - 1)

    def pool(self, x, level, places=False):
        """Go to the level above by maxima."""
        pool = OctreeMaxPool(places=places, name=f"pool{level}", **self.options)
        return pool(x, self._grouped(level))

    def conv(self, x, filters, level, name, relu=True):
        """3 x 3 x 3 convolution, normalisation, ReLU."""
        conv = OctreeConv(filters, initializer=self.initializer, name=name, **self.options)
        x = conv(x, self.table("neighbours", level))
        return self._normal(x, name, self.table("mask", level), relu)

    def down(self, x, filters, level, name):
        """2 x 2 x 2 convolution to the level above, normalisation, ReLU."""
        conv = OctreeConv(filters, 2, initializer=self.initializer, name=name, **self.options)
        return self._normal(conv(x, self._grouped(level)), name, self.table("mask", level - 1))

    def up(self, x, filters, level, name):
        """2 x 2 x 2 deconvolution from the level above, normalisation, ReLU."""
        deconv = OctreeDeconv(filters, initializer=self.initializer, name=name, **self.options)
        return self._normal(deconv(x, self.born(level)), name, self.table("mask", level))

    @classmethod
    def dense(cls, x, filters, name, mask=None, relu=True):
        """1 x 1 x 1 convolution or dense layer, normalisation over real rows, ReLU."""
        x = layers.Dense(filters, use_bias=False, name=name)(x)
        return cls._normal(x, name, mask, relu)

    @staticmethod
    def _normal(x, name, mask, relu=True):
        normal = OctreeNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")
        x = normal(x, mask=mask)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def segmentation(self, x, classes, hidden, points):
        """Return logits at the query points, or in the leaves that contain points."""
        if points:
            corners = self._input("corners", (SIBLINGS,), "int32")
            weights = self._input("weights", (SIBLINGS,), "float32")
            x = OctreeInterpolation(name="interpolation")(x, corners, weights)
        if hidden:
            if points:
                mask = self._input("point_mask", (), "bool")
            else:
                mask = self.table("mask", self.depth)
            x = self.dense(x, hidden, "head", mask)
        if not points and not self.nonempty:
            x = OctreeRows(name="leaves")(x, self.table("nonempty", self.depth))
        return _logits(x, classes)
