"""Takes on settings that change while the server runs: by SIGHUP, or by a reload's fields.

Reads `Settings`. What a running server can't change is named in the log, not ignored in silence.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from qwenkit.errors import InvalidRequest, QwenkitError
from qwenkit.server.adapters import Adapters
from qwenkit.server.auth import KeyRing
from qwenkit.server.feedback.service import Feedback
from qwenkit.server.loader import LoadPlan
from qwenkit.server.lora_paths import LoraPaths
from qwenkit.server.plans import feedback_plan_of, folders_of, keys_of, limits_of, plan_of
from qwenkit.server.reload import Reloader
from qwenkit.server.serving import Serving
from qwenkit.settings import ModelSpec, Settings

logger = logging.getLogger(__name__)

FIXED = ("qwenkit_home", "hub_token", "hub_offline")
"""Fields of a `ModelSpec` that are the machine's and no model's."""
CHANGEABLE = tuple(each.name for each in fields(ModelSpec) if each.name not in FIXED)
"""Fields of a `ModelSpec` that a reload may name."""
LIVE = frozenset(
    {
        *("api_keys", "admin_api_keys"),
        *("hf_token", "hf_hub_offline", "qwenkit_home", *CHANGEABLE),
        *("served_model_name", "reload_mode", "reload_drain_s", "reload_wait_s"),
        *("lora_paths", "lora_dirs", "lora_watch"),
        *("sse_ping_s", "thinking_budget"),
        *("log_answers", "log_redact", "log_redact_file", "log_keep_days", "log_max_mb"),
    }
)
"""Settings that are taken on; all others only a restart can change."""


def changed_plan(
    plan: LoadPlan, changes: Mapping[str, Any], *, name: str | None = None
) -> LoadPlan:
    """A plan with some of its model's settings changed, as JSON spells them.

    Args:
        plan: What is served now.
        changes: By their names in lower case; null leaves a setting as it is.
        name: What clients call the model from then on; None leaves that as it is.

    Raises:
        InvalidRequest: There is no such setting, or it can't have that value; `param` names it.
    """
    for setting in changes:
        if setting not in CHANGEABLE:
            raise InvalidRequest(
                f"a model has no setting {setting!r}",
                param=setting,
                hint=f"there are {', '.join(CHANGEABLE)}",
            )
    given = {setting: value for setting, value in changes.items() if value is not None}
    values = {setting: _checked(setting, value) for setting, value in given.items()}
    return LoadPlan(spec=replace(plan.spec, **values), name=name or plan.name)


def _checked(name: str, value: Any) -> Any:
    info = Settings.model_fields[name]
    if value == "" and info.default is None:
        return None  # as in the environment
    bounded: Any = Annotated[info.annotation, info]
    try:
        return TypeAdapter(bounded).validate_json(json.dumps(value), strict=True)
    except ValidationError as exc:
        raise InvalidRequest(f"{name}: {exc.errors()[0]['msg']}", param=name) from exc


@dataclass(slots=True)
class Rereader:
    """Brings a running server in step with its settings.

    Args:
        settings: Those that are in effect.
    """

    settings: Settings
    keys: KeyRing
    serving: Serving
    adapters: Adapters
    lora_paths: LoraPaths
    reloader: Reloader
    feedback: Feedback
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    @property
    def plan(self) -> LoadPlan:
        """What is served, or was last."""
        return self.reloader.plan or plan_of(self.settings)

    async def reread(self) -> None:
        """Read environment and `.env` again and take on what has changed; failures are logged."""
        # They are read when it is their turn, so that of several readings the last one counts.
        async with self._lock:
            try:
                await self.take_on(self.settings.reread())
            except QwenkitError as exc:
                logger.error("the settings could not be taken on: %s", exc.message)

    async def take_on(self, settings: Settings) -> None:
        """Put changed settings into effect; those that can't be are named in the log.

        Raises:
            QwenkitError: The new model can't be loaded; the old one serves on.
        """
        before = self.settings
        changed = [
            name
            for name in Settings.model_fields
            if getattr(before, name) != getattr(settings, name)
        ]
        logger.info("changed settings: %s", ", ".join(map(str.upper, changed)) or "none")
        for name in set(changed) - LIVE:
            logger.warning("%s has changed: restart the server to use it", name.upper())
        self.serving.limits = limits_of(settings)
        self._take_keys(settings)
        self._take_feedback(settings)
        self.adapters.folders = folders_of(settings)
        try:
            await self._take_model(before, settings)
        finally:
            # After the model: new adapters may fit only that one.
            await self.lora_paths.sync()
            self.lora_paths.keep_watching(settings.lora_watch)
        # Last: a model that could not be loaded is tried again the next time.
        self.settings = settings

    def _take_keys(self, settings: Settings) -> None:
        keys = keys_of(settings)
        if self.keys.can_become(keys):
            self.keys.become(keys)
        else:
            logger.warning(
                "API_KEYS or ADMIN_API_KEYS came or went: restart the server to use that"
            )

    def _take_feedback(self, settings: Settings) -> None:
        plan = replace(feedback_plan_of(settings), folder=self.feedback.plan.folder)
        try:
            # Also where no setting has changed: the file of patterns may have.
            self.feedback.take_on(plan)
        except QwenkitError as exc:
            logger.error("what the log keeps stays as it was: %s", exc.message)

    async def _take_model(self, before: Settings, settings: Settings) -> None:
        plan = self._plan(before, settings)
        if plan is not None:
            await self.reloader.reload(
                plan, mode=settings.reload_mode, drain_timeout_s=settings.reload_drain_s
            )

    def _plan(self, before: Settings, settings: Settings) -> LoadPlan | None:
        """What to serve now; None where that has not changed."""
        old, new = before.model_spec(), settings.model_spec()
        values = {
            each.name: getattr(new, each.name)
            for each in fields(ModelSpec)
            if getattr(old, each.name) != getattr(new, each.name)
        }
        renamed = before.served_model_name != settings.served_model_name
        if not values and not renamed:
            return None
        # What a request has changed since then stays, where the settings have not changed.
        now = self.plan
        name = settings.served_model_name if renamed else now.name
        return LoadPlan(spec=replace(now.spec, **values), name=name)
