"""What a formula may be called with: one text serves numpy and torch, and torch is never imported here."""

from __future__ import annotations

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A numpy array or a torch tensor, floating point; the result is of the same library, dtype and device."""
