"""Pictures of a textured mesh seen from all around, by ray casting on the CPU."""

from pathlib import Path

import numpy as np

from shared.images import from_float
from shared.images.files import replacing
from shared.raycasting import open3d

from .triplanar import sample

_BACKGROUND = 0.93
_HALF_VIEW = np.radians(14)
_DISTANCE = 1.03 / np.sin(_HALF_VIEW)  # from the eye to the centre, in radii
_ELEVATION = np.radians(20)
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
    library = open3d()
    corners = _in_unit_sphere(vertices[faces])
    scene = library.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        library.core.Tensor(corners.reshape(-1, 3).astype(np.float32)),
        library.core.Tensor(np.arange(3 * len(faces), dtype=np.uint32).reshape(-1, 3)),
    )
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.where(lengths > 0, lengths, 1)
    pictures = []
    for azimuth in np.arange(count) * 2 * np.pi / count - np.pi / 3:
        rays = _rays(azimuth, _SAMPLES * size)
        hits = scene.cast_rays(library.core.Tensor(rays))
        face = hits["primitive_ids"].numpy().view(np.int32)  # -1 for none
        second, third = np.moveaxis(hits["primitive_uvs"].numpy(), -1, 0)
        shares = np.stack([1 - second - third, second, third], axis=-1)
        seen = face >= 0
        face, shares, towards = face[seen], shares[seen], -rays[seen][:, 3:]
        places = (shares[:, :, None] * uv[face]).sum(axis=1)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        light = _AMBIENT + _HEADLIGHT * np.abs((normals[face] * towards).sum(axis=1))
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


def _rays(azimuth, side):
    """Return origins and directions of the rays of a picture, float32 `(side, side, 6)`."""
    backwards = np.array(
        [
            np.cos(_ELEVATION) * np.cos(azimuth),
            np.cos(_ELEVATION) * np.sin(azimuth),
            np.sin(_ELEVATION),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    up = np.cross(backwards, right)
    at = np.tan(_HALF_VIEW) * ((np.arange(side) + 0.5) * 2 / side - 1)
    rays = np.empty((side, side, 6), np.float32)
    rays[..., :3] = _DISTANCE * backwards
    rays[..., 3:] = at[None, :, None] * right - at[:, None, None] * up - backwards
    return rays
