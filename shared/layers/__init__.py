"""Building blocks that Keras lacks."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["bilateral", "bilateral_numba"],
    submod_attrs={
        "grouped": ["GroupedConv2D"],
        "highway": ["HighwayConv", "HighwayDense"],
        "lenet": [
            "ChannelLinearSubsample",
            "FanInUniform",
            "LocallyBiasedConv",
            "PartialConv",
            "RBFOutput",
            "ScaledTanh",
        ],
        "normalisation": ["LRN"],
        "pooling": [
            "CeilPool",
            "LpPool",
            "Maxout",
            "MixedPool",
            "SpatialPyramidPool",
            "StochasticPool",
        ],
        "regions": ["RoIAlign", "RoIPool"],
        "resizing": ["ResizeLike"],
        "shortcuts": ["ChannelPad", "StochasticDepth"],
        "switches": ["MaxPoolWithIndices", "MaxUnpool"],
    },
)
