"""The samples of a run: what is learned from, and what is only looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwenkit.errors import InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.prepare import hold_out, prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.run_config import RunConfig


def read_inputs(
    config: RunConfig, source: Path, *, progress: ProgressFactory = silent
) -> tuple[PreparedData, PreparedData | None]:
    """Prepare the data that a run's choices name.

    Args:
        config: All choices.
        source: The folder or `.gguf` that has the base's template and tokens.
        progress: Counts rows.

    Returns:
        What to train on, and what to hold out; None where nothing was asked for.

    Raises:
        InvalidData: Rows can't be learned from.
        InvalidSettings: Nothing can be held out of so few rows, or the same data is named twice.
        ModelError: The base's tokenizer or template can't be used.
    """
    run = config.run
    share = run.held_out_share
    if share is None and run.eval is not None and _is_among(str(run.eval), run.data):
        raise InvalidSettings(
            f"`{run.eval}` is trained on, so measuring on it says nothing",
            hint="name other data, or hold out a share: --eval 0.05",
        )
    with open_renderer(source) as renderer:

        def prepare(*sources: str) -> PreparedData:
            return prepare_data(
                sources,
                method=run.method,
                renderer=renderer,
                options=config.data,
                progress=progress,
            )

        train = prepare(*run.data)
        if share is not None:
            return hold_out(train, share, seed=config.loop.seed)
        return train, prepare(str(run.eval)) if run.eval is not None else None


def _is_among(name: str, sources: Sequence[str]) -> bool:
    """Whether it is one of the sources, however spelled, or lies in a folder that is one."""
    path = Path(name).resolve()
    return any({path, *path.parents} & {Path(source).resolve()} for source in sources)
