"""The network: word vectors, filters over n-grams, the largest answer of each, one dense layer.

Source: Kim 2014, "Convolutional Neural Networks for Sentence Classification", EMNLP, section 2.

| layer | name | size |
| --- | --- | --- |
| vectors of the words, `PAD` is zero | `words` | V x d |
| convolution of each width, valid, with bias | `conv0`, `conv1`, … | maps |
| ReLU, largest over time, side by side | `pool0`, …, `features` | widths x maps |
| dropout | `dropout` | |
| dense, columns of norm 3 at most | `classes` | K |

The two channels of `multichannel` share their filters, so the sum of their two convolutions is one
convolution of the sum of their vectors; it costs half as much and has one bias, as in the paper.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from shared.errors import DataError

from .text import PAD, Vocabulary

MODES = ("nonstatic", "static", "rand", "multichannel")
ACTIVATIONS = ("relu", "tanh")
WIDEST = 10
Mode = Literal["nonstatic", "static", "rand", "multichannel"]
Activation = Literal["relu", "tanh"]
Init = Literal["paper", "glorot"]
_VOCABULARY, _ARRAYS = "vocabulary.txt", "arrays.npz"
_MOST_UNPACKED = 1 << 30


@dataclass(frozen=True)
class Architecture:
    """The sizes of a network.

    Attributes:
        widths: Words that a filter sees; one convolution for each entry.
        maps: Filters of each width.
        mode: `nonstatic` tunes the vectors, `static` leaves them, `rand` starts from random ones,
            `multichannel` adds a frozen and a tuned copy.
        dropout: Share of the features left out in training.
        max_norm: Largest norm of a column of the dense layer; 0 for any.
        activation: Of the convolutions.
        init: Filters of U(-0.01, 0.01) and a dense layer of zeros (the author), or Glorot's.

    Raises:
        DataError: A value is out of range.
    """

    widths: tuple[int, ...] = (3, 4, 5)
    maps: int = 100
    mode: Mode = "nonstatic"
    dropout: float = 0.5
    max_norm: float = 3.0
    activation: Activation = "relu"
    init: Init = "glorot"

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths or not all(1 <= width <= WIDEST for width in self.widths):
            raise DataError(f"Filters are 1 to {WIDEST} words wide, not {list(self.widths)}.")
        if self.maps < 1:
            raise DataError(f"There must be at least one map of each width, not {self.maps}.")
        if not 0 <= self.dropout < 1:
            raise DataError(f"The dropout must be at least 0 and below 1, not {self.dropout}.")
        if not self.max_norm >= 0:
            raise DataError(f"The largest norm cannot be {self.max_norm}.")
        for name, allowed in (
            ("mode", MODES),
            ("activation", ACTIVATIONS),
            ("init", ("paper", "glorot")),
        ):
            if getattr(self, name) not in allowed:
                raise DataError(
                    f"There is no {name} {getattr(self, name)!r}; choose from {', '.join(allowed)}."
                )


def network(
    architecture: Architecture, table: np.ndarray, classes: int, vocabulary: Vocabulary
) -> keras.Model:
    """Return an untrained network.

    Args:
        architecture: Its sizes.
        table: Vectors of the words `(len(vocabulary), d)`; row 0 counts as zero.
        classes: K; also for several labels a text, with a sigmoid in place of the softmax.
        vocabulary: Travels with the weights.

    Returns:
        int32 word numbers `(batch, length)`, padded by `text.pad`, to logits `(batch, K)`; all in
        float32, since the network is bound by look-ups, which bfloat16 does not speed up.
    """
    is_paper = architecture.init == "paper"
    filters = keras.initializers.RandomUniform(-0.01, 0.01) if is_paper else "glorot_uniform"
    ids = keras.Input((None,), dtype="int32", name="ids")
    embedding = WordEmbedding(*table.shape, mode=architecture.mode, name="words", dtype="float32")
    vectors = embedding(ids)
    pooled = []
    for number, width in enumerate(architecture.widths):
        maps = keras.layers.Conv1D(
            architecture.maps,
            width,
            activation=architecture.activation,
            kernel_initializer=filters,
            name=f"conv{number}",
            dtype="float32",
        )(vectors)
        pooled.append(keras.layers.GlobalMaxPooling1D(name=f"pool{number}", dtype="float32")(maps))
    if len(pooled) > 1:
        pooled = [keras.layers.Concatenate(name="features", dtype="float32")(pooled)]
    x = ResumableDropout(architecture.dropout, name="dropout", dtype="float32")(pooled[0])
    limit = keras.constraints.MaxNorm(architecture.max_norm, axis=0)
    logits = keras.layers.Dense(
        classes,
        kernel_initializer="zeros" if is_paper else "glorot_uniform",
        kernel_constraint=limit if architecture.max_norm else None,
        name="classes",
        dtype="float32",
    )(x)
    embedding.assign(table)
    embedding.vocabulary = vocabulary
    return keras.Model(ids, logits, name="textcnn")


@keras.saving.register_keras_serializable("convsuite")
class ResumableDropout(keras.layers.Dropout):
    """Dropout that keeps its random numbers with the weights, so that a training can go on."""

    def save_own_variables(self, store):
        """Keep the state of the random numbers; Keras calls this."""
        if self.rate:
            store["seed"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        """Restore the state of the random numbers; Keras calls this."""
        if self.rate:
            self.seed_generator.state.assign(np.asarray(store["seed"]))


@keras.saving.register_keras_serializable("convsuite")
class WordEmbedding(keras.layers.Layer):
    """Looks up the vectors of words; `PAD` is zero whatever its row holds.

    Attributes:
        vocabulary: The words of the rows; saved with the weights. `None` before it is known.
        arrays: Further arrays that belong to the vocabulary; saved with the weights.
    """

    def __init__(self, rows: int, dim: int, mode: Mode = "nonstatic", **kwargs):
        super().__init__(**kwargs)
        self.rows, self.dim, self.mode = rows, dim, mode
        self.vocabulary: Vocabulary | None = None
        self.arrays: Mapping[str, np.ndarray] = {}

    def build(self, input_shape):
        """Make one table of vectors, or two for `multichannel`."""
        shape = (self.rows, self.dim)
        self.table = self.add_weight(
            shape=shape, initializer="zeros", trainable=self.mode != "static", name="table"
        )
        self.frozen = None
        if self.mode == "multichannel":
            self.frozen = self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name="frozen"
            )

    def assign(self, table: np.ndarray) -> None:
        """Set the vectors, those of both channels for `multichannel`."""
        table = np.array(table, np.float32)
        table[PAD] = 0
        self.table.assign(table)
        if self.frozen is not None:
            self.frozen.assign(table)

    def call(self, ids):
        """Return the vectors `(batch, length, d)` of int32 rows `(batch, length)`."""
        # On TensorFlow the gradient of a look-up is a list of rows, of which Keras' optimizers
        # square each: wrong for a word that a batch holds twice. The product makes it a matrix.
        vectors = ops.take(self.table * 1.0, ids, axis=0)
        if self.frozen is not None:
            vectors = vectors + ops.take(self.frozen, ids, axis=0)
        return vectors * ops.cast(ids != PAD, vectors.dtype)[..., None]

    def compute_output_shape(self, input_shape):
        """Return the shape with the vectors as its last axis."""
        return (*input_shape, self.dim)

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {"rows": self.rows, "dim": self.dim, "mode": self.mode}

    def save_assets(self, folder: str) -> None:
        """Write the vocabulary and the further arrays; Keras calls this."""
        if self.vocabulary is not None:
            Path(folder, _VOCABULARY).write_bytes(self.vocabulary.to_bytes())
        if self.arrays:
            np.savez_compressed(Path(folder, _ARRAYS), **self.arrays)

    def load_assets(self, folder: str) -> None:
        """Read what `save_assets` wrote; Keras calls this.

        Raises:
            ValueError: The files do not belong to these weights.
        """
        words, arrays = Path(folder, _VOCABULARY), Path(folder, _ARRAYS)
        if words.is_file():
            self.vocabulary = Vocabulary.from_bytes(words.read_bytes())
            if len(self.vocabulary) != self.rows:
                raise ValueError(
                    f"its vocabulary has {len(self.vocabulary)} rows, its vectors {self.rows}"
                )
        if arrays.is_file():
            with zipfile.ZipFile(arrays) as archive:
                if sum(member.file_size for member in archive.infolist()) > _MOST_UNPACKED:
                    raise ValueError(f"{_ARRAYS} unpacks to over {_MOST_UNPACKED} bytes")
            with np.load(arrays, allow_pickle=False) as found:
                self.arrays = dict(found)


@dataclass(frozen=True)
class Parameters:
    """A trained network as plain arrays, float32.

    Attributes:
        table: Vectors `(V, d)`, for `multichannel` the sum of both; row `PAD` is zero.
        kernels: Of each convolution `(width, d, maps)`.
        biases: Of each convolution `(maps,)`.
        activation: `relu` or `tanh`.
        dense: `(features, K)`.
        dense_bias: `(K,)`.
    """

    table: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: Activation
    dense: np.ndarray
    dense_bias: np.ndarray

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each convolution in words."""
        return tuple(len(kernel) for kernel in self.kernels)

    def features(self, largest: np.ndarray) -> np.ndarray:
        """Return the features `(n, features)` of the largest sums over time."""
        return np.tanh(largest) if self.activation == "tanh" else np.maximum(largest, 0)

    def logits(self, largest: np.ndarray) -> np.ndarray:
        """Return the logits `(n, K)` of the largest sums over time `(n, features)`."""
        return self.features(largest) @ self.dense + self.dense_bias


def parameters(model: keras.Model) -> Parameters:
    """Return the weights of a network of `network`, as they are now."""
    embedding = model.get_layer("words")
    table = np.array(ops.convert_to_numpy(embedding.table))
    if embedding.frozen is not None:
        table += ops.convert_to_numpy(embedding.frozen)
    table[PAD] = 0
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv1D)]
    weights: list[Any] = [layer.get_weights() for layer in convolutions]
    dense, dense_bias = model.get_layer("classes").get_weights()
    return Parameters(
        table,
        tuple(kernel for kernel, _ in weights),
        tuple(bias for _, bias in weights),
        keras.activations.serialize(convolutions[0].activation),
        dense,
        dense_bias,
    )
