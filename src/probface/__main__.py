"""``python -m probface``, and what ``torchrun -m probface`` starts in every process."""

from __future__ import annotations

from probface.cli import main

if __name__ == "__main__":
    main()
