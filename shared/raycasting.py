"""Meshes seen by casting rays on the CPU, which needs no graphics card.

Open3D's own off-screen renderer needs a graphics driver; its ray caster does not.
"""

from typing import Any

import numpy as np

from shared.errors import DependencyError, reason

HALF_VIEW = np.radians(14)
"""Half the angle of view of the camera."""
EYE = np.array([0, 0, 1.03 / np.sin(HALF_VIEW)])
"""The camera, looking along -z: it sees the unit sphere with a margin around it."""


def open3d() -> Any:
    """Return the module Open3D, which takes a second to import.

    Raises:
        DependencyError: It is not installed, or a system library it needs.
    """
    try:
        import open3d as module
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"Scanning and showing meshes needs Open3D ({reason(error)}); run `make setup` or `pip "
            "install open3d`, and see `convsuite doctor` for the system libraries it needs."
        ) from error
    return module


def cast(vertices: np.ndarray, faces: np.ndarray, rays: np.ndarray) -> dict[str, np.ndarray]:
    """Cast rays onto a mesh, in single precision.

    Args:
        vertices: `(vertices, 3)`, about as large as 1.
        faces: `(faces, 3)`.
        rays: Origins and directions, `(..., 6)`.

    Returns:
        Of the first hit of each ray: `t_hit` `(...)`, its distance in lengths of the direction,
        infinite for none; `primitive_ids` `(...)`, its face, -1 for none; `primitive_uvs`
        `(..., 2)`, the shares of the face's second and third vertex in it; `primitive_normals`
        `(..., 3)`.

    Raises:
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    library = open3d()
    scene = library.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        library.core.Tensor(vertices.astype(np.float32)),
        library.core.Tensor(faces.astype(np.uint32)),
    )
    hits = scene.cast_rays(library.core.Tensor(rays.astype(np.float32)))
    hits = {name: values.numpy() for name, values in hits.items()}
    # The number for no face is the largest of 32 bits, without their sign.
    hits["primitive_ids"] = hits["primitive_ids"].view(np.int32)
    return hits


def camera_axes(azimuth: float, elevation: float) -> np.ndarray:
    """Return the camera's directions right, up and backwards as rows, float64 `(3, 3)`.

    Args:
        azimuth: Degrees from the x axis to the camera, towards y; -90 looks along +y.
        elevation: Degrees of the camera above the ground, -90..90.
    """
    a, e = np.radians([azimuth, elevation])
    backwards = [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]
    right = [-np.sin(a), np.cos(a), 0]
    return np.array([right, np.cross(backwards, right), backwards])


def camera_rays(side: int) -> np.ndarray:
    """Return the rays of a picture from `EYE`, float32 `(side, side, 6)`, row 0 at the top."""
    at = np.tan(HALF_VIEW) * ((np.arange(side) + 0.5) * 2 / side - 1)
    rays = np.empty((side, side, 6), np.float32)
    rays[..., :3] = EYE
    rays[..., 3], rays[..., 4], rays[..., 5] = at, -at[:, None], -1
    return rays
