"""Pictures of a textured mesh seen from all around, by ray casting on the CPU."""

from pathlib import Path

import numpy as np

from shared.images import from_float
from shared.images.files import replacing
from shared.raycasting import camera_axes, camera_rays, cast

from .triplanar import sample

_BACKGROUND = 0.93
_START, _ELEVATION = -60, 20  # of the camera, in degrees
_SAMPLES = 2  # rays a pixel and axis
_AMBIENT, _HEADLIGHT = 0.45, 0.55


def views(
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray,
    texture: np.ndarray,
    *,
    count: int = 8,
    size: int = 256,
) -> list[np.ndarray]:
    """Show a mesh, z up, from `count` directions that lie evenly around it.

    Args:
        vertices: `(vertices, 3)`.
        faces: `(faces, 3)`.
        uv: Texture coordinates of the corners of each face, `(faces, 3, 2)`, v upwards.
        texture: `(height, width, 3)`, 0..1; repeats.
        count: Number of views.
        size: Pixels a side.

    Returns:
        Pictures, float32 `(size, size, 3)`, 0..1.

    Raises:
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    corners = _in_unit_sphere(vertices[faces])
    numbers = np.arange(3 * len(faces)).reshape(-1, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.where(lengths > 0, lengths, 1)
    rays = camera_rays(_SAMPLES * size)
    pictures = []
    for azimuth in _START + np.arange(count) * 360 / count:
        axes = camera_axes(azimuth, _ELEVATION)
        hits = cast((corners @ axes.T).reshape(-1, 3), numbers, rays)
        seen = hits["primitive_ids"] >= 0
        face = hits["primitive_ids"][seen]
        second, third = hits["primitive_uvs"][seen].T
        shares = np.stack([1 - second - third, second, third], axis=-1)
        places = (shares[:, :, None] * uv[face]).sum(axis=1)
        towards = -rays[seen][:, 3:]
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        facing = np.abs((normals[face] @ axes.T * towards).sum(axis=1))
        light = _AMBIENT + _HEADLIGHT * facing
        picture = np.full((*seen.shape, 3), _BACKGROUND, np.float32)
        picture[seen] = np.clip(sample(texture, places) * light[:, None], 0, 1)
        blocks = picture.reshape(size, _SAMPLES, size, _SAMPLES, 3)
        pictures.append(blocks.mean(axis=(1, 3)))
    return pictures


def write_animation(path: str | Path, pictures: list[np.ndarray], seconds: float = 2.4) -> None:
    """Write pictures as a GIF that repeats.

    Raises:
        ImageError: The file cannot be written.
    """
    from PIL import Image

    first, *others = (Image.fromarray(from_float(picture, np.uint8)) for picture in pictures)
    with replacing(Path(path)) as part:
        first.save(
            part,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=round(1000 * seconds / len(pictures)),
            loop=0,
        )


def _in_unit_sphere(corners):
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    centred = corners - (low / 2 + high / 2)
    return centred / np.linalg.norm(centred, axis=2).max()
