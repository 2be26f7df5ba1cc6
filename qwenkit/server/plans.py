"""What the settings say, as the values that the parts of the server take. Reads `Settings`.

Nothing is begun here: `app.py` makes the parts, `rereading.py` changes them while they run.
"""

from __future__ import annotations

from qwenkit.feedback.log import FOLDER
from qwenkit.server.adapter_folders import AdapterFolders
from qwenkit.server.agent.service import AgentPlan
from qwenkit.server.auth import KeyRing
from qwenkit.server.feedback.label_studio import LabelStudioHook
from qwenkit.server.feedback.service import FeedbackPlan
from qwenkit.server.loader import LoadPlan
from qwenkit.server.openai.responses.store import ResponseStore
from qwenkit.server.serving import Limits
from qwenkit.settings import LogAnswers, ResponsesStore, Settings


def keys_of(settings: Settings) -> KeyRing:
    """The keys that the settings name."""
    return KeyRing(
        users=[key.get_secret_value() for key in settings.api_keys],
        admins=[key.get_secret_value() for key in settings.admin_api_keys],
    )


def plan_of(settings: Settings) -> LoadPlan:
    """The model that the settings name."""
    return LoadPlan(spec=settings.model_spec(), name=settings.served_model_name)


def limits_of(settings: Settings) -> Limits:
    """What the settings say about requests."""
    return Limits(
        sse_ping_s=settings.sse_ping_s,
        thinking_budget=settings.thinking_budget,
        reload_wait_s=settings.reload_wait_s,
    )


def folders_of(settings: Settings) -> AdapterFolders:
    """Where the settings say that adapters may come from."""
    own = settings.qwenkit_home / "adapters"
    return AdapterFolders(settings.lora_paths, (*settings.lora_dirs, own))


def feedback_plan_of(settings: Settings) -> FeedbackPlan:
    """What the settings say of the feedback log."""
    return FeedbackPlan(
        folder=settings.log_dir / FOLDER,
        answers=settings.log_answers.value,
        redact=settings.log_redact,
        redact_file=settings.log_redact_file,
        keep_days=settings.log_keep_days,
        max_bytes=settings.log_max_mb * 2**20,
    )


def response_store_of(settings: Settings) -> ResponseStore | None:
    """Where responses are kept; None where they are not."""
    place = settings.responses_store
    if place is ResponsesStore.OFF:
        return None
    if place is ResponsesStore.AUTO:
        is_open = settings.log_answers is LogAnswers.FULL
        is_open = is_open and not settings.log_redact and settings.log_redact_file is None
        place = ResponsesStore.DISK if is_open else ResponsesStore.MEMORY
    return ResponseStore(
        settings.log_dir / "responses.sqlite" if place is ResponsesStore.DISK else None,
        max_bytes=settings.responses_max_mb * 2**20,
        keep_s=settings.responses_keep_days * 24 * 3600,
    )


def agent_plan_of(settings: Settings) -> AgentPlan:
    """What the settings say of the agent."""
    url, key = settings.database_url, settings.openai_api_key
    return AgentPlan(
        database=settings.log_dir / "agent.sqlite" if url is None else url.get_secret_value(),
        remote_url=settings.openai_api_base_url,
        remote_key=None if key is None else key.get_secret_value(),
        system_prompt=settings.agent_system_prompt,
        allowed_tools=settings.agent_allowed_tools,
        max_steps=settings.agent_max_steps,
    )


def label_studio_of(settings: Settings) -> LabelStudioHook:
    """Who may report judgements, and where they are asked for."""
    key, secret = settings.label_studio_api_key, settings.label_studio_webhook_secret
    return LabelStudioHook(
        url=settings.label_studio_url,
        api_key=None if key is None else key.get_secret_value(),
        secret=None if secret is None else secret.get_secret_value(),
    )


def features_of(settings: Settings) -> dict[str, bool]:
    """What the chat page may offer."""
    is_logged = settings.log_answers is not LogAnswers.OFF
    return {"agent": True, "feedback": is_logged, "mcp": True}
