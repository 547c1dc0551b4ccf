"""What a replica keeps of a sharded block."""

import torch
from torch import nn

from executor.sharding import SharedBucket


def bucket(rank: int) -> tuple[SharedBucket, list[nn.Parameter]]:
    """Return a bucket of a 2 x 2 matrix and a vector of 3, filled up to 8 elements for two replicas."""
    parameters = [nn.Parameter(torch.arange(4.0).view(2, 2)), nn.Parameter(torch.arange(4.0, 7.0))]
    gradient = torch.zeros(8)
    parameters[0].grad, parameters[1].grad = gradient[:4].view(2, 2), gradient[4:7]
    return SharedBucket(parameters, gradient, 2, rank), parameters


def test_a_replica_keeps_its_part_alone() -> None:
    for rank, expected in enumerate(([0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 0.0])):
        sharded, parameters = bucket(rank)
        assert sharded.part.tolist() == expected
        assert all(parameter.untyped_storage().nbytes() == 0 for parameter in parameters)
        assert [parameter.shape for parameter in parameters] == [(2, 2), (3,)]


def test_backward_reads_what_was_gathered_again() -> None:
    sharded, (matrix, _) = bucket(1)
    sharded.allocate()
    sharded.whole.copy_(torch.arange(8.0))
    output = torch.tensor([1.0, 2.0], requires_grad=True) @ matrix * matrix.sum()
    sharded.release()
    assert matrix.untyped_storage().nbytes() == 0
    sharded.allocate()
    sharded.whole.copy_(torch.arange(8.0))
    output.sum().backward()
    expected = torch.arange(4.0).view(2, 2).requires_grad_()
    (torch.tensor([1.0, 2.0]) @ expected * expected.sum()).sum().backward()
    assert torch.equal(matrix.grad, expected.grad)


def test_the_part_of_the_gradient_is_a_view_of_the_whole() -> None:
    sharded, (matrix, vector) = bucket(1)
    vector.grad.add_(1)
    matrix.grad.add_(2)
    assert sharded.part.grad.tolist() == [1.0, 1.0, 1.0, 0.0]
