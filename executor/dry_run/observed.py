"""What a rank does in a step, seen while the executor runs it on tensors without values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from executor.dry_run.account import Account, Entry, Message
from executor.dry_run.flops import FlopMeter
from executor.dry_run.network import FakeNetwork
from executor.lanes import HostLanes
from executor.memory import StorageMeter
from executor.modules import tables
from executor.runtime import Runtime
from executor.transport import Transport
from simulator.cost.compute import PASSES
from simulator.load import Inputs
from simulator.program.instructions import COLLECTIVE_AXIS, Instruction


def observed(inputs: Inputs, rank: int) -> Account:
    """Run two steps of a rank of any world in this process; return the account of the second.

    The first makes what is made once: the optimizer's state, tables of angles. No other process group may exist.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=inputs.plan.mesh.world_size)
    tables.forget()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            runtime = Runtime(inputs, rank, Transport(inputs.program), torch.device("cpu"))
            return _Observation(runtime).run()
    finally:
        tables.forget()
        dist.destroy_process_group()


class _Observation:
    """Two steps of a runtime, and what came of the second."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.entries: dict[Instruction, Entry] = {}
        self.parameters = 0.0

    def run(self) -> Account:
        """Run."""
        runtime, lanes = self.runtime, self.runtime.lanes
        assert isinstance(lanes, HostLanes)
        lanes.watches_sends = True
        with FakeNetwork(self._note):
            runtime.step()
            self.entries.clear()
            with StorageMeter(pause=0.0) as meter, FlopMeter() as flops:
                before = 0

                def computed() -> None:
                    nonlocal before
                    lanes.hear()
                    entry = self._entry()
                    entry.flops = float(flops.total - before)
                    # Beside an update, sums of gradients may still lie in buffers.
                    entry.held = meter.read() if self._instruction().kind in PASSES else None
                    before = flops.total
                    self.parameters = max(self.parameters, _bytes(self._parameters()))

                spans, _ = runtime.step(computed)
        for span in spans:
            self.entries.setdefault(span.instruction, Entry())
        return Account(rank=runtime.rank, entries=self.entries, memory=self._memory())

    def _entry(self) -> Entry:
        return self.entries.setdefault(self._instruction(), Entry())

    def _instruction(self) -> Instruction:
        """Return the instruction that is running."""
        span = self.runtime.lanes.current
        assert span
        return span.instruction

    def _note(self, operation: str, tensor: Tensor, ranks: tuple[int, ...]) -> None:
        """Add a message to the instruction that is running."""
        size = float(tensor.numel() * tensor.element_size())
        axis = self._axis(ranks, operation in ("send", "receive"))
        self._entry().messages.append(Message(operation=operation, size=size, ranks=ranks, axis=axis))

    def _axis(self, ranks: tuple[int, ...], to_one: bool) -> str:
        """Return the axis whose group a message went over, that of the instruction if it is one; none of a stage's."""
        program, rank, kind = self.runtime.program, self.runtime.rank, self._instruction().kind
        if kind not in COLLECTIVE_AXIS:
            return ""
        own = COLLECTIVE_AXIS[kind]
        groups = {axis: program.group(rank, axis) for axis in (own, *COLLECTIVE_AXIS.values())}
        fits = (axis for axis, group in groups.items() if (ranks[0] in group if to_one else ranks == group))
        return next(fits, "no axis")

    def _memory(self) -> dict[str, float]:
        runtime = self.runtime
        states = [state for update in runtime.updates.values() for state in update.states()]
        sums = [flat for gradients in runtime.gradients.values() for flat in gradients.all]
        sums += [b.sum for buckets in runtime.shared.values() for b in buckets if b.sum is not None]
        return {"parameters": self.parameters, "gradients": _bytes(sums), "optimizer state": _bytes(states)}

    def _parameters(self) -> Iterator[Tensor]:
        """Yield all that holds parameters: whole ones, parts, and fp32 masters."""
        runtime = self.runtime
        for stage in runtime.stages.values():
            yield from stage.parameters()
        for update in runtime.updates.values():
            yield from update.parameters
            yield from update.masters
        for buckets in runtime.shared.values():
            yield from (bucket.whole for bucket in buckets)


def _bytes(tensors: Iterable[Tensor]) -> float:
    """Return the bytes of the storages behind some tensors, each once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return float(sum(storages.values()))
