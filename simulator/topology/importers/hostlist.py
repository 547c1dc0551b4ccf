"""Slurm's hostlist expressions: ``tux[0-3,12],login`` names six hosts."""

import re
from itertools import product

MAX_HOSTS = 100_000
"""Names in one expression."""

_PART = re.compile(r"([^\[\],\s]*)(?:\[([0-9,\-]+)\])?")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def expand_hostlist(text: str) -> list[str]:
    """Return the names in an expression, in its order.

    Raises
    ------
    ValueError
        The brackets make no sense, or there are too many names.

    Examples
    --------
    >>> expand_hostlist("n[08-10],rack[0-1]b[1,3]")
    ['n08', 'n09', 'n10', 'rack0b1', 'rack0b3', 'rack1b1', 'rack1b3']
    """
    names: list[str] = []
    for expression in re.split(r",(?![^\[]*\])", text.strip()):
        names += _expand(expression.strip(), MAX_HOSTS - len(names))
    return names


def _expand(expression: str, limit: int) -> list[str]:
    parts: list[list[str]] = []
    position, count = 0, 1
    while position < len(expression):
        match = _PART.match(expression, position)
        if match is None or match.end() == position:
            raise ValueError(f'"{expression[:40]}" is no list of hosts; write, say, node[0-3,8]')
        parts.append([match[1]])
        if match[2] is not None:
            ranges = [_bounds(each) for each in match[2].split(",")]
            count *= sum(last - first + 1 for first, last, _ in ranges)
            if count > limit:
                raise ValueError(f'"{expression[:40]}" names more than {MAX_HOSTS:,} hosts')
            parts.append([f"{i:0{width}}" for first, last, width in ranges for i in range(first, last + 1)])
        position = match.end()
    if not parts:
        raise ValueError("an empty name in a list of hosts")
    return ["".join(words) for words in product(*parts)]


def _bounds(text: str) -> tuple[int, int, int]:
    """First and last number of a range, and the width that both are padded to."""
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if match is None or last < first:
        raise ValueError(f'"{text[:20]}" is no range; write, say, 0-3')
    return first, last, len(match[1])
