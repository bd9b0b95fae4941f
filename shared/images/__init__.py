"""Read and write pictures with their bit depth, alpha, colour profile and EXIF block.

| file | read | written |
| --- | --- | --- |
| JPEG | 8 bit, grey, RGB, CMYK | 8 bit, 4:4:4, no alpha |
| PNG | 1 to 16 bit, grey, RGB, palette, alpha | 8 or 16 bit, alpha |
| WebP | 8 bit, alpha | 8 bit, lossy, alpha, never grey |
| BMP | 8 bit, palette | 8 bit, no alpha, no profile, no EXIF |
| TIFF | 1 to 16 bit, float, grey, RGB, palette, CMYK, alpha | 8 or 16 bit, float32, alpha |
| Radiance HDR | RGBE | RGBE, no alpha, linear |
| OpenEXR | R G B, Y or one channel, with A; whole data window | float32, alpha, linear |

Alpha stays beside the colours and never multiplies them; TIFF colours stored multiplied by alpha
are divided first, OpenEXR colours stay as stored (the format defines them as multiplied).
"""

from .bands import forget_pages, save_bands
from .loading import READABLE, load, read
from .picture import Picture, from_float, to_float
from .saving import losses, save, write

__all__ = [
    "READABLE",
    "Picture",
    "forget_pages",
    "from_float",
    "load",
    "losses",
    "read",
    "save",
    "save_bands",
    "to_float",
    "write",
]
