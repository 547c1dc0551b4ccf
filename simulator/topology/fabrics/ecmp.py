"""Which of the parallel links a pair of ranks keeps to."""

import numpy as np

from simulator.topology.fabrics.base import Index

WORD = 2**64 - 1


def draw(seed: int | None, src: Index, dst: Index) -> Index:
    """A number below 2^31 for a pair of ranks (or for arrays of them); 0 without a seed.

    Notes
    -----
    The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), as switches hash the addresses of a flow: the same
    pair always goes the same way, and pairs spread evenly.
    """
    if seed is None:
        return 0
    word = (src << 32) + dst
    if isinstance(word, np.ndarray):
        word = word.astype(np.uint64)
    word = (word + (seed + 1) * 0x9E3779B97F4A7C15 % (WORD + 1)) & WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    word = (word ^ (word >> 31)) >> 33
    return word.astype(np.int64) if isinstance(word, np.ndarray) else word
