"""What pictures share: a figure, and text in it."""

from ringweave.commands.common import library

LETTERS = 48  # of a name, so that bars have room beside it
FILE_LETTERS = 100  # of the name of a file, which stands above


def figure(width, height):
    """An empty figure, in inches."""
    matplotlib = library("matplotlib")
    matplotlib.rcParams["svg.hashsalt"] = "ringweave"  # ids without chance
    # No pyplot, which would look for a screen: a Figure draws by Agg.
    return library("matplotlib.figure").Figure(
        figsize=(width, height), layout="constrained")


def clean(name, most=LETTERS):
    """`name` as one line that fonts and SVG take, of `most` letters or fewer.

    Names come from files: they may have control characters, halves of
    surrogate pairs, or bytes that are no UTF-8.
    """
    text = "".join(letter if letter.isprintable() else "\ufffd"
                   for letter in name)
    if len(text) <= most:
        return text
    # Names that are alike at first often differ at the end.
    return f"{text[:most // 2 - 1]}…{text[-most // 2:]}"


def plain(text):
    """`text` as a label, in which a $ would begin a formula."""
    return text.replace("$", r"\$")
