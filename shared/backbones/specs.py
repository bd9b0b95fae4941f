"""What the library knows about a network before any framework is imported."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from shared.errors import ConvsuiteError

if TYPE_CHECKING:
    import keras

    Taps = Iterator[tuple[str, keras.KerasTensor]]
    Constructor = Callable[..., Taps]

APP = "backbones"
"""What the weights of networks belong to, in their cards and folders."""

Program = Literal["torch", "caffe"]
Preprocessing = Literal["caffe", "caffe_rounded", "tf", "torch", "lite", "hed", "unit", "lecun"]

# By the last tap.
_WITHOUT_CLASSES = {"edges": "an edge detector's trunk", "embedding": "a network for embeddings"}


@dataclass(frozen=True)
class Tap:
    """A place in a network where features can be taken.

    Attributes:
        name: What `create(features=[…])` calls it.
        stride: Input pixels per step of the map; 0 for vectors, which have no place.
        channels: Channels of the map, entries of the vector.
    """

    name: str
    stride: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network of the library.

    Attributes:
        name: What `create` calls it.
        build: Its constructor: a generator function `build(x, classes, **variant)` that yields
            `(tap, tensor)` from the input to the last layer. `create` stops it behind the last tap
            that is wanted, so nothing beyond is ever built.
        variant: Keyword arguments of `build` that make this network of the family.
        paper: Authors, year, title or arXiv number.
        table: Where in the paper the layers stand.
        size: Side of the square input the paper uses, in pixels.
        channels: Channels of the input.
        classes: Classes of the published network.
        preprocessing: Kind of input, see `shared.backbones.preprocessing`.
        parameters: Trainable parameters at `classes`.
        statistics: Moving statistics of its batch normalisations.
        gmacs: Multiply-adds of convolutions and dense layers at `size`, in 10^9.
        body: The tap in front of the classifier: the output of `create(top=False)`.
        taps: All taps, from the input to the output. `probs` stands last where there is one.
        minimum: Smallest side of the input at which every map in front of `body` exists.
        fixed_size: The classifier needs inputs of `size`, since it flattens a map.
        crop: Part of the shorter side that `classify` sees; above 1, with black around it.
        twin: Class of `keras.applications` with the same layers; empty where there is none.
        elsewhere: By program the network that its files belong to instead: their arrays fit this
            one, but were trained with other borders, constants or colours. Empty: none has them.
        note: Where paper and common implementations differ, and which one this is.
    """

    name: str
    build: "Constructor"
    variant: Mapping[str, Any] = field(default_factory=dict)
    paper: str
    table: str
    size: int
    channels: int = 3
    classes: int = 1000
    preprocessing: Preprocessing
    parameters: int
    statistics: int = 0
    gmacs: float
    body: str
    taps: tuple[Tap, ...]
    minimum: int
    fixed_size: bool = False
    crop: float = 0.875
    twin: str = ""
    elsewhere: Mapping[Program, str] = field(default_factory=dict)
    note: str = ""

    @property
    def family(self) -> str:
        """The module that holds the constructor."""
        return self.build.__module__.rpartition(".")[2]

    def check_classes(self) -> None:
        """Refuse networks whose output is no answer per class.

        Raises:
            ConvsuiteError: It is not.
        """
        kind = _WITHOUT_CLASSES.get(self.taps[-1].name)
        if kind:
            raise ConvsuiteError(f"{self.name} is {kind} without classes; choose another network.")


def vector_taps(body_channels: int, classes: int = 1000) -> tuple[Tap, ...]:
    """Return the taps of the usual classifier: pooled features, logits, probabilities."""
    return (
        Tap("penultimate", 0, body_channels),
        Tap("logits", 0, classes),
        Tap("probs", 0, classes),
    )


def in_torch(spec: Spec, **changes: Any) -> Spec:
    """Return the same layers as torchvision trained them, with its colours: `NAME_torch`.

    Args:
        spec: The network as its authors or Keras trained it.
        **changes: What else differs from it.
    """
    options = {
        "preprocessing": "torch",
        "twin": "",
        "elsewhere": {"caffe": spec.name},
        "note": f"`{spec.name}` for the files of torchvision and timm, which differ in the colours "
        "they were trained on.",
        **changes,
    }
    return replace(spec, name=f"{spec.name}_torch", **options)
