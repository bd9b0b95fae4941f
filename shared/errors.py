"""Errors a user can cause. Each carries one sentence: what was wrong, where, what to do."""


class ConvsuiteError(Exception):
    """A mistake in the input or the surroundings; shown as one line, never as a traceback."""


class ImageError(ConvsuiteError):
    """A picture cannot be read or written."""


class VideoError(ConvsuiteError):
    """A video, camera or window cannot be used."""


class WeightsError(ConvsuiteError):
    """A weight file is missing, damaged, hostile, or belongs to something else."""


class DataError(ConvsuiteError):
    """Training or look-up data (pairs, tables, folders) does not have the promised form."""


class DependencyError(ConvsuiteError):
    """An optional package or system library is needed and not installed."""


def reason(error: BaseException) -> str:
    """Return what an exception of a library or of the system says, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
