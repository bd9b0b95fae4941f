"""Every network of the lineage from LeNet to NASNet: exact, with taps, weights and tools.

from shared import backbones

network = backbones.create("resnet50", features=["stage2", "stage4"])
spec = backbones.spec("resnet50")
batch = backbones.preprocess(images.read("cat.jpg"), spec)[None]
stage2, stage4 = network.predict(batch)
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "labels": ["decode"],
        "preprocessing": ["preprocess", "preprocess_whole"],
        "registry": ["create", "list_networks", "spec", "tap"],
        "specs": ["Spec", "Tap"],
        "trunks": ["trunk"],
    },
)
