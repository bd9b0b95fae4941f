"""Open3D, whose ray casting shows meshes without a graphics card."""

from typing import Any

from shared.errors import DependencyError, reason


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
