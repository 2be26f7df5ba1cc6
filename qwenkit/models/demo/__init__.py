"""Says where the embedded demo checkpoint is. Knows nothing of its weights or their making."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEMO_NAME: Final = "qwenkit-demo"
DEMO_DIR: Final[Path] = Path(__file__).parent / "checkpoint"
