"""Tensors that follow from sizes alone: made once, and no activations of the step that reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

Made = TypeVar("Made")

_tables: list[Any] = []


def table(make: Callable[..., Made]) -> Callable[..., Made]:
    """Return a function that makes each table once."""
    kept = lru_cache(maxsize=8)(make)
    _tables.append(kept)
    return kept


def forget() -> None:
    """Forget all tables: those made under one mode of torch cannot be read under another."""
    for each in _tables:
        each.cache_clear()
