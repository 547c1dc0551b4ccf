"""Hugging Face models from their configurations: the same laws as for networks in plain torch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.tracing.models import HUGGING_FACE
from tests.tracing.test_costs import (
    test_flops_and_parameters_are_those_of_the_module as check_costs,
)
from tests.tracing.test_costs import (
    test_one_process_trains_what_the_module_trains_by_itself as check_training,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_a_model_is_imported_and_trained(name: str, tmp_path: Path) -> None:
    check_costs(f"hf_{name}", tmp_path)
    check_training(f"hf_{name}", "zb_h1", tmp_path)
