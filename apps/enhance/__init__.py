"""Photo and video enhancement in real time by learned bilateral grids (HDRNet).

Paper: Gharbi, Chen, Barron, Hasinoff, Durand, "Deep Bilateral Learning for Real-Time Image
Enhancement", ACM TOG 36(4), 2017. A small network looks at a thumbnail and predicts a 16 x 16 x 8
grid of colour matrices; every pixel of the full-resolution picture reads its matrix from the grid
and applies it, so edges stay sharp and the cost per pixel is that of a look-up table.

Example:
    >>> from apps.enhance import Enhancer
    >>> from shared import images
    >>> clahe = Enhancer.from_weights("clahe", strength=0.8)
    >>> images.write("after.png", clahe(images.read("before.jpg")))
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "enhancer": ["Enhancer", "looks"],
        "lut": ["Lut", "fit_lut"],
        "train": ["train_pairs"],
    },
)
