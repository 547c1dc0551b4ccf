"""A rank's order written down phase by phase, as the papers of the V-shaped schedules do."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind


class Tape:
    """Actions of one rank; each takes the next micro-batch of its kind and chunk.

    Parameters
    ----------
    stages
        The rank's stages by chunk.

    Examples
    --------
    >>> tape = Tape((0, 3))
    >>> tape.play("F0", times=2)
    >>> tape.play("F1 I1 W1")
    >>> " ".join(map(str, tape.order))
    '0F0 0F1 3F0 3I0 3W0'
    """

    def __init__(self, stages: tuple[int, ...]) -> None:
        self.order: list[Instruction] = []
        self._stages = stages
        self._forwards = [0] * len(stages)
        self._backwards = [0] * len(stages)
        self._owed: list[tuple[int, int]] = []

    def play(self, phase: str, times: int = 1) -> None:
        """Append a phase such as ``"F0 I1 W1"``; a digit is a chunk, a bare W the oldest weight gradient owed."""
        steps = [(Kind[step[0]], int(step[1:] or -1)) for step in phase.split()]
        for _ in range(times):
            for kind, chunk in steps:
                self._append(kind, chunk)

    def _append(self, kind: Kind, chunk: int) -> None:
        if kind is Kind.W:
            owed = next(owed for owed in self._owed if chunk in (-1, owed[0]))
            self._owed.remove(owed)
            chunk, microbatch = owed
        else:
            counts = self._forwards if kind is Kind.F else self._backwards
            microbatch = counts[chunk]
            counts[chunk] += 1
            if kind is Kind.I:
                self._owed.append((chunk, microbatch))
        self.order.append(Instruction(kind, self._stages[chunk], microbatch))
