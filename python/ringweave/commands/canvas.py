"""What pictures share: a figure, and text in it."""

from ringweave.commands.common import library


def figure(width, height):
    """An empty figure, in inches."""
    matplotlib = library("matplotlib")
    matplotlib.rcParams["svg.hashsalt"] = "ringweave"  # ids without chance
    # No pyplot, which would look for a screen: a Figure draws by Agg.
    return library("matplotlib.figure").Figure(
        figsize=(width, height), layout="constrained")


def plain(text):
    """`text` as a label, in which a $ would begin a formula."""
    return text.replace("$", r"\$")
