"""What can go wrong with a fabric."""


class FabricError(Exception):
    """One line: what was done, what was got, what is wanted."""


class Refused(FabricError):
    """This machine does not let us make namespaces, links or shapers."""
