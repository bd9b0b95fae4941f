"""Layers on the rows of an octree.

Source: Wang et al. 2017, "O-CNN". A map is a matrix `(rows, channels)`; its rows are the nodes of
one level of a whole batch: all nodes, or with `nonempty` only those that contain points. Tables of
rows are those of `inputs`: shifted by one, 0 is nothing.

| layer | all nodes: tables | `nonempty`: tables |
| --- | --- | --- |
| 3 x 3 x 3 convolution | neighbours of level | the same |
| the same of stride 2, to level - 1 | neighbours of stride 2; children of level - 1 | neighbours |
| 2 x 2 x 2 convolution of stride 2, max-pooling | children of level - 1 | children of level |
| 2 x 2 x 2 deconvolution, unpooling, upsampling to level + 1 | nonempty of level | of level + 1 |
"""

import math

import keras
from keras import ops

from shared.errors import ConvsuiteError

NEIGHBOURS, SIBLINGS = 27, 8
LARGEST_BUFFER = 256 * 2**20
"""Bytes of gathered neighbours above which a convolution goes over them one by one."""


def spread(x, table, value=0.0):
    """Place rows into a larger level.

    Args:
        x: Rows `(rows, channels)`.
        table: For each new row its row in `x` plus 1, or 0; any shape.
        value: What rows of nothing hold.

    Returns:
        Rows `(*table.shape, channels)`.
    """
    nothing = ops.full_like(x[:1], value)
    return ops.take(ops.concatenate([nothing, x], axis=0), table, axis=0)


def siblings(x):
    """Return rows `(rows, channels)` as `(rows / 8, 8, channels)`."""
    return ops.reshape(x, (-1, SIBLINGS, x.shape[-1]))


def _flat(x):
    """Return `(rows, 8, channels)` as `(8 rows, channels)`."""
    return ops.reshape(x, (-1, x.shape[-1]))


class _Rows(keras.layers.Layer):
    """A layer that knows whether rows are all nodes or those that contain points."""

    def __init__(self, nonempty=False, **kwargs):
        super().__init__(**kwargs)
        self.nonempty = nonempty

    def _families(self, x, children, missing=0.0):
        """Return the eight siblings of each row to come, `(parents, 8, channels)`."""
        return siblings(spread(x, children, missing) if self.nonempty else x)

    def _placed(self, parents, children):
        """Return one row per parent as rows of the level of the parents."""
        return parents if self.nonempty else spread(parents, children)

    def _parents(self, x, rows):
        """Return the rows that have children."""
        return x if self.nonempty else ops.take(x, rows, axis=0)

    def _born(self, families, rows):
        """Return children `(parents, 8, channels)` as rows of their level."""
        x = _flat(families)
        return ops.take(x, rows, axis=0) if self.nonempty else x

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {"nonempty": self.nonempty}


class _Kernel(_Rows):
    """A layer with a kernel `(cells, in, out)` and perhaps a bias."""

    def __init__(self, filters, *, use_bias=False, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.use_bias = use_bias
        self.initializer = keras.initializers.get(initializer)

    def _add_kernel(self, cells, rows, columns):
        self.kernel = self.add_weight(
            shape=(cells, rows, columns), initializer=self.initializer, name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def _biased(self, x):
        return x + self.bias if self.use_bias else x

    def compute_output_spec(self, x, *tables):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, self.filters), self.compute_dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {
            "filters": self.filters,
            "use_bias": self.use_bias,
            "initializer": keras.initializers.serialize(self.initializer),
        }


@keras.saving.register_keras_serializable("convsuite")
class OctreeConv(_Kernel):
    """Convolution over the neighbours of a node; its kernel is `(27 or 8, in, out)`.

    Args:
        filters: Channels of the result.
        kernel_size: 3 or 2.
        strides: 1, or 2 to go to the level above; a kernel of size 2 has the stride 2.
        **kwargs: `nonempty`, `use_bias`, `initializer`, and those of every Keras layer.

    Raises:
        ConvsuiteError: Size and stride do not go together.
    """

    def __init__(self, filters, kernel_size=3, strides=None, **kwargs):
        super().__init__(filters, **kwargs)
        self.kernel_size = kernel_size
        self.strides = (1 if kernel_size == 3 else 2) if strides is None else strides
        if (self.kernel_size, self.strides) not in ((3, 1), (3, 2), (2, 2)):
            raise ConvsuiteError(
                f"{self.name}: an octree convolution of size {kernel_size} and stride "
                f"{strides} is not possible; choose size 3 with stride 1 or 2, or size 2."
            )

    def build(self, input_shape):
        """Create the kernel."""
        self._add_kernel(self.kernel_size**3, input_shape[-1], self.filters)

    def call(self, x, table, children=None):
        """Convolve.

        Args:
            x: Rows of the level `(rows, in)`.
            table: Size 3: neighbours `(rows or parents, 27)`. Size 2: children, see this module.
            children: Size 3 and stride 2 on all nodes: children of the level above.

        Returns:
            Rows of the level, or of the level above, `(rows, filters)`.
        """
        if self.kernel_size == 2:
            return self._biased(self._placed(self._matmul(self._families(x, table)), table))
        result = self._over_neighbours(x, table)
        if self.strides == 2:
            result = self._placed(result, children)
        return self._biased(result)

    def _over_neighbours(self, x, table):
        rows = ops.shape(table)[0]
        most = LARGEST_BUFFER // (NEIGHBOURS * x.shape[-1] * 4)
        if isinstance(rows, int):
            return self._at_once(x, table) if rows <= most else self._one_by_one(x, table)
        # Graphs of TensorFlow are traced once for all sizes.
        return ops.cond(
            rows <= most, lambda: self._at_once(x, table), lambda: self._one_by_one(x, table)
        )

    def _at_once(self, x, table):
        return self._matmul(spread(x, table))

    def _one_by_one(self, x, table):
        # A loop of the backend: 27 copies of its body make TensorFlow trace for half a minute.
        def add(k, total):
            product = ops.matmul(x, ops.take(self.kernel, k, axis=0))
            return total + spread(product, ops.take(table, k, axis=1))

        start = ops.zeros((ops.shape(table)[0], self.filters), self.compute_dtype)
        return ops.fori_loop(0, NEIGHBOURS, add, start)

    def _matmul(self, gathered):
        cells = self.kernel_size**3
        columns = ops.reshape(gathered, (-1, cells * gathered.shape[-1]))
        return ops.matmul(columns, ops.reshape(self.kernel, (-1, self.filters)))

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {"kernel_size": self.kernel_size, "strides": self.strides}


@keras.saving.register_keras_serializable("convsuite")
class OctreeDeconv(_Kernel):
    """Transposed 2 x 2 x 2 convolution of stride 2; its kernel is `(8, filters, in)`."""

    def build(self, input_shape):
        """Create the kernel."""
        self._add_kernel(SIBLINGS, self.filters, input_shape[-1])

    def call(self, x, rows):
        """Return rows of the level below, `(rows, filters)`; for `rows` see this module."""
        wide = ops.matmul(
            self._parents(x, rows), ops.transpose(ops.reshape(self.kernel, (-1, x.shape[-1])))
        )
        families = ops.reshape(wide, (-1, SIBLINGS, self.filters))
        return self._biased(self._born(families, rows))


@keras.saving.register_keras_serializable("convsuite")
class OctreeMaxPool(_Rows):
    """Maximum over eight siblings.

    Args:
        places: Return also which sibling, 0 to 7, int32 `(parents, channels)`; of equal ones the
            first.
        **kwargs: `nonempty`, and those of every Keras layer.
    """

    def __init__(self, places=False, **kwargs):
        super().__init__(**kwargs)
        self.places = places

    def call(self, x, children):
        """Return rows of the level above, and places; for `children` see this module."""
        families = self._families(x, children, -math.inf)
        largest = ops.max(families, axis=1)
        result = self._placed(largest, children)
        if not self.places:
            return result
        # Which of equal values argmax returns differs between backends.
        number = ops.reshape(ops.arange(SIBLINGS, dtype="int32"), (1, SIBLINGS, 1))
        is_largest = ops.equal(families, ops.expand_dims(largest, 1))
        return result, ops.min(ops.where(is_largest, number, SIBLINGS - 1), axis=1)

    def compute_output_spec(self, x, children):
        """Return what `call` returns, as shapes."""
        result = keras.KerasTensor((None, x.shape[-1]), x.dtype)
        return (result, keras.KerasTensor(result.shape, "int32")) if self.places else result

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {"places": self.places}


@keras.saving.register_keras_serializable("convsuite")
class OctreeMaxUnpool(_Rows):
    """Put values back to where the maxima of `OctreeMaxPool` stood; 0 elsewhere."""

    def call(self, x, places, rows):
        """Return rows of the level below; for `rows` see this module."""
        parents = ops.expand_dims(self._parents(x, rows), 1)
        number = ops.reshape(ops.arange(SIBLINGS, dtype="int32"), (1, SIBLINGS, 1))
        here = ops.equal(ops.expand_dims(places, 1), number)
        return self._born(ops.where(here, parents, ops.zeros_like(parents)), rows)

    def compute_output_spec(self, x, places, rows):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class OctreeUpsample(_Rows):
    """Give every child the value of its parent."""

    def call(self, x, rows):
        """Return rows of the level below; for `rows` see this module."""
        parents = ops.expand_dims(self._parents(x, rows), 1)
        return self._born(ops.repeat(parents, SIBLINGS, axis=1), rows)

    def compute_output_spec(self, x, rows):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class OctreeVoxels(_Rows):
    """Rows of level 2 as `(shapes, 64, channels)`, in the order of their keys; 0 in empty ones."""

    def call(self, x, children):
        """Return the voxels; `children` are those of level 2."""
        if self.nonempty:
            x = spread(x, children)
        return ops.reshape(x, (-1, 64, x.shape[-1]))

    def compute_output_spec(self, x, children):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, 64, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class PoseMax(keras.layers.Layer):
    """Maximum over the batch, which is the poses of one shape: `(poses, c)` -> `(1, c)`."""

    def call(self, x):
        """Return the largest of each channel."""
        return ops.max(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable("convsuite")
class OctreeGlobalAverage(_Rows):
    """Mean over the rows of level 2 of each shape.

    That level is full, so that a shape always has its 64 nodes, and no numbers of shapes are
    needed; with `nonempty`, those that contain points count.
    """

    def call(self, x, children):
        """Return `(shapes, channels)`; `children` are those of level 2."""
        if not self.nonempty:
            return ops.mean(ops.reshape(x, (-1, 64, x.shape[-1])), axis=1)
        total = ops.sum(ops.reshape(spread(x, children), (-1, 64, x.shape[-1])), axis=1)
        filled = ops.cast(ops.reshape(children, (-1, 64)) > 0, x.dtype)
        return total / ops.maximum(ops.sum(filled, axis=1, keepdims=True), 1)

    def compute_output_spec(self, x, children):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class OctreeInterpolation(keras.layers.Layer):
    """Trilinear interpolation at points, by the tables `corners` and `weights` of `inputs`."""

    def call(self, x, corners, weights):
        """Return `(points, channels)`; 0 where no node is near."""
        weights = ops.expand_dims(ops.cast(weights, x.dtype), -1)
        return ops.sum(spread(x, corners) * weights, axis=1)

    def compute_output_spec(self, x, corners, weights):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class OctreeRows(keras.layers.Layer):
    """Some rows of a map, such as the leaves that contain points."""

    def call(self, x, rows):
        """Return `(len(rows), channels)`."""
        return ops.take(x, rows, axis=0)

    def compute_output_spec(self, x, rows):
        """Return what `call` returns, as shapes."""
        return keras.KerasTensor((None, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("convsuite")
class OctreeNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the real rows of a map; `call(x, mask=…)`."""

    def compute_mask(self, inputs, mask=None):
        """Return None: a mask handed on would reach the loss, whose rows may be others."""
        return
