"""3D shape analysis with octree-based convolutional networks (O-CNN).

Paper: Wang, Liu, Guo, Sun, Tong, "O-CNN: Octree-based Convolutional Neural Networks for 3D Shape
Analysis", ACM TOG 36(4), 2017. A shape becomes an octree; features live only in the octants around
its surface, so that cost and memory grow with the area of the surface, not with the volume.

Example:
    >>> from apps.ocnn import Classifier, Segmenter, read
    >>> Classifier.from_weights("objects24")(read("chair.obj")).top(1)
    [('chair', 0.95)]
    >>> parts = Segmenter.from_weights("made_chair")(read("chair.obj"))
    >>> parts.labels.shape  # of each face
    (752,)
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "meshes": ["Cloud", "Mesh", "read"],
        "tasks": ["Classifier", "Index", "Segmenter"],
    },
)
