"""Texture synthesis and style transfer with the statistics of convolutional features.

Papers: Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015,
and "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016; Sendik, Cohen-Or, "Deep
Correlations for Texture Synthesis", ACM TOG 36(5), 2017. Nothing is trained: the pixels of a
picture are changed until its features have the statistics of an exemplar.

Example:
    >>> from apps.texture import TextureSynthesizer
    >>> from shared import images
    >>> gram = TextureSynthesizer.from_weights("gram")
    >>> cobbles = gram(images.read("stones.jpg"), size=(512, 512), tile="xy", seed=1)
    >>> images.write("cobbles.png", cobbles)
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "synth": ["Recipe", "Synthesis", "TextureSynthesizer"],
        "style": ["StyleTransfer"],
    },
)
