"""What is needed to go on with a synthesis that was cut off."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.errors import ConvsuiteError

_STATE = "state:"
_CURVE = "curve"


class Stored(NamedTuple):
    """Where a synthesis stood.

    Attributes:
        stage: Index of the stage.
        picture: At that time.
        state: Of the optimiser.
        curves: Energies of the stages before.
    """

    stage: int
    picture: np.ndarray
    state: dict[str, np.ndarray]
    curves: list[list[float]]


class Checkpoint:
    """A file beside a result, written every so many steps and removed at the end.

    Attributes:
        path: The file.
        every: Steps from one writing to the next.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, every: int = 20):
        """Name the file; a file of other settings (inputs, seed, recipe) is not gone on with."""
        self.path = path
        self.every = every
        self._settings = json.dumps(settings, sort_keys=True, default=str)

    def save(
        self,
        stage: int,
        picture: np.ndarray,
        state: dict[str, np.ndarray],
        curves: list[list[float]],
    ) -> None:
        """Write the file, whole or not at all.

        Raises:
            ConvsuiteError: It cannot be written.
        """
        arrays = {f"{_STATE}{name}": value for name, value in state.items()}
        arrays |= {f"{_CURVE}{number}": np.array(curve) for number, curve in enumerate(curves)}
        part = self._part()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                np.savez(stream, settings=self._settings, stage=stage, picture=picture, **arrays)
            os.replace(part, self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ConvsuiteError(
                f"{self.path}: the checkpoint cannot be written ({error.strerror}); make room, or "
                "choose another folder with --out."
            ) from error

    def load(self) -> Stored | None:
        """Return what was written with the same settings; None where there is nothing usable."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            if str(found["settings"]) != self._settings:
                return None
            state = {
                name.removeprefix(_STATE): value
                for name, value in found.items()
                if name.startswith(_STATE)
            }
            numbers = sorted(int(n.removeprefix(_CURVE)) for n in found if n.startswith(_CURVE))
            curves = [found[f"{_CURVE}{number}"].tolist() for number in numbers]
            return Stored(int(found["stage"]), found["picture"], state, curves)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def remove(self) -> None:
        """Delete the file, since the result is there, and what a killed run left half-written."""
        self.path.unlink(missing_ok=True)
        self._part().unlink(missing_ok=True)

    def _part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")
