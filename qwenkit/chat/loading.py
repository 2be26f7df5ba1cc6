"""From a `ModelSpec` to a model that can be talked to."""

from __future__ import annotations

import logging

from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.loading import load_engine
from qwenkit.engine.observer import Observer
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.settings import ModelSpec

logger = logging.getLogger(__name__)


def load_chat_model(
    spec: ModelSpec,
    *,
    name: str | None = None,
    progress: ProgressFactory = silent,
    observer: Observer | None = None,
) -> ChatModel:
    """Load a model, start its engine, and take the chat template that came with the weights.

    Args:
        spec: Which model and how.
        name: What clients call it; by default what it is called where it came from.
        progress: Told what is downloaded, converted and loaded.
        observer: Told what the engine does.

    Raises:
        QwenkitError: As `engine.loading.load_engine` does; also a template that can't be used.
    """
    loaded = load_engine(spec, progress=progress, observer=observer)
    for note in loaded.notes:
        logger.warning(note)
    try:
        template = ChatTemplate(
            loaded.engine.facts.chat_template,
            control_tokens=loaded.engine.tokenizer.control_tokens,
        )
        return ChatModel(name or loaded.model.name, loaded.engine, template)
    except BaseException:
        loaded.engine.close()
        raise
