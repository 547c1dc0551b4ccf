"""The Program: what each rank does, as data that both interpreters run."""

from simulator.program.compile import compile_plan
from simulator.program.instructions import Instruction, Kind, Stream
from simulator.program.program import Program
from simulator.program.verify import verify

__all__ = ["Instruction", "Kind", "Program", "Stream", "compile_plan", "verify"]
