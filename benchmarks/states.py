"""How states of linear layers travel, as schedules for Lab.play().

A state is a block of `size` tokens of one key and value head; STATE_OPTIONS say
to the program what a token weighs, so that sizes are in bytes.
"""

from lab import schedule

# One number of one byte's share: K and V of one bf16 number are 4 bytes.
UNIT_BYTES = 4
OPTIONS = dict(heads=1, head_dim=1, batch=1)


def cut(size, pieces):
    """Sizes in units of the `pieces` parts of `size` units."""
    return [size * (i + 1) // pieces - size * i // pieces
            for i in range(pieces)]


def chain(ranks, state_bytes, pieces=1):
    """LASP's chain (1 piece) and ZeCO's All-Scan: each rank adds its own to each
    piece that it gets, and passes it on."""
    sizes = cut(state_bytes // UNIT_BYTES, pieces)
    blocks = {(rank, piece): sizes[piece] for rank in range(ranks)
              for piece in range(pieces)}
    transfers = [(rank, rank + 1, rank, piece, rank + piece, piece)
                 for rank in range(ranks - 1) for piece in range(pieces)]
    return schedule(ranks, blocks, transfers)


def sharded_scan(ranks, state_bytes):
    """Slice i of every state goes to rank i, which scans it and sends each rank
    its slice of the incoming state. Strands 0 … ranks-1 of a rank are the slices
    of its state, the others the slices of incoming states that it makes."""
    sizes = cut(2 * (state_bytes // UNIT_BYTES), 2 * ranks)
    blocks = {}
    transfers = []
    for rank in range(ranks):
        for other in range(ranks):
            blocks[rank, other] = sizes[other]
            blocks[rank, ranks + other] = sizes[ranks + other]
            if other != rank:
                transfers.append((rank, other, rank, other, 0, rank))
                transfers.append((rank, other, rank, ranks + other, 1,
                                  ranks + rank))
    return schedule(ranks, blocks, transfers)


def gather_options(ranks, state_bytes):
    """Options for Lab.simulate() under which the K and V of a rank weigh one
    state, and every rank needs every other's."""
    return dict(OPTIONS, seq_len=ranks * (state_bytes // UNIT_BYTES),
                mask="full", layout="contiguous")
