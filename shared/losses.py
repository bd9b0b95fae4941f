"""Losses that Keras lacks: integer labels throughout, one value per example.

Mean squared error of given targets and cross entropy of one-hot labels, with smoothing, are
`keras.losses.MeanSquaredError` and `keras.losses.CategoricalCrossentropy`.
"""

from collections.abc import Sequence
from typing import Literal

import keras
from keras import ops

from shared.errors import ConvsuiteError


def _one_hot(loss: keras.losses.Loss, labels, outputs):
    """Return the labels as one-hot rows beside outputs `(batch, classes)`."""
    labels = _labels(loss, labels, outputs, "classes")
    return ops.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)


def _labels(loss: keras.losses.Loss, labels, outputs, last_axis: str):
    if len(outputs.shape) != 2 or tuple(labels.shape[1:]) not in ((), (1,)):
        raise ConvsuiteError(
            f"{type(loss).__name__} takes labels (batch,) and outputs (batch, {last_axis}), not "
            f"{tuple(labels.shape)} and {tuple(outputs.shape)}."
        )
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


@keras.saving.register_keras_serializable("convsuite")
class TargetMSE(keras.losses.Loss):
    """Mean squared error against +1 at the class and -1 elsewhere.

    Source: LeCun et al. 1989, section 4. Called with labels `(batch,)` and outputs
    `(batch, classes)`, as all losses of classifiers here.

    Raises:
        ConvsuiteError: Labels or outputs have other axes.
    """

    def call(self, labels, outputs):
        """Return one value per example."""
        targets = 2.0 * _one_hot(self, labels, outputs) - 1.0
        return ops.mean(ops.square(outputs - targets), axis=-1)


@keras.saving.register_keras_serializable("convsuite")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross entropy against `(1 - e) y + e / classes`.

    Source: Szegedy et al. 2015, "Rethinking the Inception Architecture", section 7.

    Args:
        smoothing: e, 0 to 1.
        from_logits: The outputs are logits, not probabilities.
        **options: Of every Keras loss.

    Raises:
        ConvsuiteError: Labels or outputs have other axes, or the smoothing lies outside 0..1.
    """

    def __init__(self, smoothing=0.1, from_logits=False, **options):
        super().__init__(**options)
        if not 0 <= smoothing <= 1:
            raise ConvsuiteError(f"SmoothedCrossEntropy: smoothing lies in 0..1, not {smoothing}.")
        self.smoothing = smoothing
        self.from_logits = from_logits

    def call(self, labels, outputs):
        """Return one value per example."""
        classes = outputs.shape[-1]
        targets = _one_hot(self, labels, outputs) * (1 - self.smoothing) + self.smoothing / classes
        return ops.categorical_crossentropy(targets, outputs, self.from_logits)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "smoothing": self.smoothing,
            "from_logits": self.from_logits,
        }


@keras.saving.register_keras_serializable("convsuite")
class MAPLoss(keras.losses.Loss):
    """Maximum a posteriori: `y_D + log(e^-j + sum_i e^-y_i)` of penalties y, D the right class.

    Pulls the right penalty down and pushes the others up, but no longer those far above j. Source:
    LeCun et al. 1998, equation 9.

    Args:
        j: Penalty of a "rubbish" class, above 0; the paper gives no figure.
        **options: Of every Keras loss.

    Raises:
        ConvsuiteError: Labels or outputs have other axes, or j is not above 0.
    """

    def __init__(self, j=1.0, **options):
        super().__init__(**options)
        if not j > 0:
            raise ConvsuiteError(f"MAPLoss: j must be above 0, not {j}.")
        self.j = j

    def call(self, labels, outputs):
        """Return one value per example."""
        right = ops.sum(outputs * _one_hot(self, labels, outputs), axis=-1)
        return right + ops.logaddexp(-self.j, ops.logsumexp(-outputs, axis=-1))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "j": self.j}


@keras.saving.register_keras_serializable("convsuite")
class Hinge(keras.losses.Loss):
    """One classifier against the rest per class: `sum_k max(0, 1 - t_k s_k)^power`, t = +-1.

    Source: Tang 2013, "Deep Learning using Linear Support Vector Machines", section 2.

    Args:
        power: 1, or 2 for the squared hinge.
        **options: Of every Keras loss.

    Raises:
        ConvsuiteError: Labels or outputs have other axes.
    """

    def __init__(self, power: Literal[1, 2] = 1, **options):
        super().__init__(**options)
        self.power = power

    def call(self, labels, outputs):
        """Return one value per example."""
        targets = 2.0 * _one_hot(self, labels, outputs) - 1.0
        return ops.sum(ops.relu(1.0 - targets * outputs) ** self.power, axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable("convsuite")
class Contrastive(keras.losses.Loss):
    """`y d^2 + (1 - y) max(0, margin - d)^2` of distances d; y is 1 for pairs of one kind.

    Source: Hadsell et al. 2006, equation 4, without its factors 1/2. Called with y and d of equal
    shape.

    Args:
        margin: Distance from which pairs of two kinds cost nothing.
        **options: Of every Keras loss.

    Raises:
        ConvsuiteError: y and d differ in shape.
    """

    def __init__(self, margin=1.0, **options):
        super().__init__(**options)
        self.margin = margin

    def call(self, same, distances):
        """Return one value per pair."""
        if tuple(same.shape) != tuple(distances.shape):
            raise ConvsuiteError(
                f"Contrastive takes flags and distances of one shape, not {tuple(same.shape)} and "
                f"{tuple(distances.shape)}."
            )
        apart = ops.square(ops.relu(self.margin - distances))
        return same * ops.square(distances) + (1.0 - same) * apart

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}


def distances(first, second):
    """Return Euclidean distances between vectors; their slope at 0 is 0.

    Args:
        first: `(…, features)`.
        second: The same shape, or one that broadcasts.

    Returns:
        `(…)`.
    """
    squares = ops.sum(ops.square(first - second), axis=-1)
    apart = squares > 0
    return ops.where(apart, ops.sqrt(ops.where(apart, squares, 1.0)), 0.0)


def triplet(anchor, positive, negative, margin: float = 1.0):
    """Return `max(0, d(anchor, positive) - d(anchor, negative) + margin)`.

    Source: Schroff et al. 2015, equation 2, with distances in place of their squares.

    Args:
        anchor: `(batch, features)`.
        positive: The same shape, examples of the same kind.
        negative: The same shape, examples of another kind.
        margin: How much farther the negatives should be.

    Returns:
        `(batch,)`.

    Raises:
        ConvsuiteError: The shapes differ.
    """
    shapes = [tuple(vectors.shape) for vectors in (anchor, positive, negative)]
    if len(set(shapes)) > 1:
        raise ConvsuiteError(f"triplet takes three batches of one shape, not {shapes}.")
    return ops.relu(distances(anchor, positive) - distances(anchor, negative) + margin)


@keras.saving.register_keras_serializable("convsuite")
class BatchHardTriplet(keras.losses.Loss):
    """Triplet loss of each example with its farthest fellow and its nearest stranger.

    Source: Hermans et al. 2017, equation 5. Called with labels `(batch,)` and embeddings
    `(batch, features)`. Examples without a fellow or without a stranger cost nothing.

    Args:
        margin: How much farther the strangers should be.
        **options: Of every Keras loss.

    Raises:
        ConvsuiteError: Labels or embeddings have other axes.
    """

    def __init__(self, margin=1.0, **options):
        super().__init__(**options)
        self.margin = margin

    def call(self, labels, outputs):
        """Return one value per example."""
        labels = _labels(self, labels, outputs, "features")
        apart = distances(outputs[:, None], outputs[None])
        same = ops.equal(labels[:, None], labels[None])
        itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
        fellows = ops.logical_and(same, ops.logical_not(itself))
        farthest = ops.max(ops.where(fellows, apart, 0.0), axis=1)
        # A stranger is looked for among strangers only: the others are moved behind all of them.
        nearest = ops.min(ops.where(same, ops.max(apart), apart), axis=1)
        both = ops.logical_and(ops.any(fellows, axis=1), ops.logical_not(ops.all(same, axis=1)))
        return ops.where(both, ops.relu(farthest - nearest + self.margin), 0.0)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("convsuite")
class MultiTask(keras.layers.Layer):
    """One loss out of several: `sum_i w_i L_i`, or `sum_i e^-s_i L_i + s_i` with learned s.

    Learned weights are log-variances, and start at 0. Source: Kendall et al. 2018, section 3.2.

    Args:
        weights: One number per task, or `learned`.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The number of losses is not that of the weights.
    """

    def __init__(self, weights: Sequence[float] | Literal["learned"] = "learned", **options):
        super().__init__(**options)
        self.task_weights = weights if weights == "learned" else tuple(weights)

    def build(self, input_shape):
        """Make the log-variances."""
        tasks = len(input_shape)
        if self.task_weights == "learned":
            self.log_variances = self.add_weight(
                shape=(tasks,), initializer="zeros", name="log_variances"
            )
        elif len(self.task_weights) != tasks:
            raise ConvsuiteError(
                f"MultiTask {self.name} has {len(self.task_weights)} weights for {tasks} losses."
            )

    def call(self, losses):
        """Return the weighted sum of a list of losses of one shape."""
        if self.task_weights != "learned":
            return sum(w * loss for w, loss in zip(self.task_weights, losses, strict=True))
        logs = [self.log_variances[i] for i in range(len(losses))]
        return sum(ops.exp(-log) * loss + log for log, loss in zip(logs, losses, strict=True))

    def compute_output_shape(self, input_shape):
        """Return the shape of one of the losses."""
        return input_shape[0]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "weights": self.task_weights}
