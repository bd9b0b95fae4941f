"""What the keys of the live window control."""

from dataclasses import dataclass, replace

_MAX_STRENGTH = 2.0
_ESCAPE = 27


@dataclass(frozen=True)
class View:
    """What the keys of the window control.

    Attributes:
        strength: Strength of the filter, 0 to 2.
        split: Show the unfiltered picture left of the divider.
        divider: Position of the divider, 0 (left) to 1 (right).
        paused: Hold the picture.
        recording: Write the filtered frames to a file.
        snapshot: Save the filtered frame once.
        help: Show the keys.
        quit: End.
    """

    strength: float
    split: bool = False
    divider: float = 0.5
    paused: bool = False
    recording: bool = False
    snapshot: bool = False
    help: bool = True
    quit: bool = False


def press(view: View, key: int) -> View:
    """Return the view after a key press (a character code; others change nothing)."""
    if key == _ESCAPE:
        return replace(view, quit=True)
    match chr(key) if 0 <= key < 128 else "":
        case "+" | "=":
            return replace(view, strength=min(_MAX_STRENGTH, round(view.strength + 0.1, 1)))
        case "-" | "_":
            return replace(view, strength=max(0.0, round(view.strength - 0.1, 1)))
        case "[":
            return replace(view, split=True, divider=max(0.0, round(view.divider - 0.05, 2)))
        case "]":
            return replace(view, split=True, divider=min(1.0, round(view.divider + 0.05, 2)))
        case "s":
            return replace(view, split=not view.split)
        case " ":
            return replace(view, paused=not view.paused)
        case "p":
            return replace(view, snapshot=True)
        case "r":
            return replace(view, recording=not view.recording)
        case "h":
            return replace(view, help=not view.help)
        case "q":
            return replace(view, quit=True)
    return view
