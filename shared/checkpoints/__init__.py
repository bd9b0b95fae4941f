"""Weight files of other programs, read as data: nothing a file contains is ever executed.

from shared import checkpoints

arrays = checkpoints.read("squeezenet1_1.pth")  # {"features.0.weight": array, …}
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__, submod_attrs={"caffe": ["layer_names", "read_layers"], "formats": ["detect", "read"]}
)
