"""A round trip through a real Label Studio. `LABEL_STUDIO_COMMAND` names its program."""

import os
import secrets
import signal
import subprocess
import threading
from dataclasses import dataclass

import httpx
import pytest

from qwenkit.errors import InvalidSettings, RemoteError, RemoteUnreachable
from qwenkit.feedback.datasets.export import iter_rows
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.label_studio.client import SdkLabelStudio
from qwenkit.feedback.label_studio.pull import pull_project, pull_task
from qwenkit.feedback.label_studio.push import Webhook, push_tasks
from qwenkit.feedback.label_studio.tasks import pair_tasks, rating_tasks
from qwenkit.feedback.label_studio.templates import Template
from qwenkit.feedback.query import Query

from .conftest import answered
from .test_annotations import choice, preference, stars, text

COMMAND = os.environ.get("LABEL_STUDIO_COMMAND")
PORT = 18081
PERSON = "ann@example.com"

pytestmark = [
    pytest.mark.label_studio,
    pytest.mark.skipif(COMMAND is None, reason="LABEL_STUDIO_COMMAND is not set"),
]


@dataclass
class Running:
    url: str
    token: str


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Label Studio on an empty database."""
    token = secrets.token_hex(20)
    environment = {
        "COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path_factory.mktemp("label-studio")),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
        "LABEL_STUDIO_USERNAME": PERSON,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LATEST_VERSION_CHECK": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    arguments = ["start", "--no-browser", "-b", "--internal-host", "127.0.0.1"]
    process = subprocess.Popen(
        [COMMAND, *arguments, "--port", str(PORT)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if "Starting development server" in line:
                break
        else:
            pytest.fail("Label Studio did not start")
        # Its log must go on being read, or it stops at a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Running(f"http://127.0.0.1:{PORT}", token)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()


@pytest.fixture
def server(running):
    with SdkLabelStudio(running.url, running.token) as server:
        yield server


@pytest.fixture
def api(running):
    """Label Studio's own client, for what a person does in the browser."""
    from label_studio_sdk import LabelStudio

    with httpx.Client(timeout=60) as http:
        yield LabelStudio(base_url=running.url, api_key=running.token, httpx_client=http)


def annotate(api, task_id, *result, **more):
    return api.annotations.create(id=task_id, result=list(result), **more)


def tasks_of(api, project):
    return {
        frozenset((task.data["answer_a"], task.data["answer_b"])): (task.id, task.data)
        for task in api.tasks.list(project=project.id, fields="all")
    }


def side(data, answer):
    return "left" if data["answer_a"] == answer else "right"


def test_two_pairs_pushed_and_judged_become_the_right_rows(api, server, log, index):
    for name, answer, question in (
        ("a", "384,400 km.", "How far is the moon?"),
        ("b", "Very far.", "How far is the moon?"),
        ("c", "Rome, I think.", "The capital of France?"),
        ("d", "Paris.", "The capital of France?"),
    ):
        log.interaction(answered(name, answer, question=question, thread_id=question))
    index.refresh()
    report = push_tasks(server, Template.PAIRS, pair_tasks(index.prompt_groups(Query())))
    assert (report.created, report.n_imported) == (True, 2)
    again = push_tasks(server, Template.PAIRS, pair_tasks(index.prompt_groups(Query())))
    assert (again.created, again.n_imported, again.n_there) == (False, 0, 2)

    tasks = tasks_of(api, report.project)
    moon, moon_data = tasks[frozenset(("384,400 km.", "Very far."))]
    paris, paris_data = tasks[frozenset(("Rome, I think.", "Paris."))]
    annotate(api, moon, preference(side(moon_data, "384,400 km.")), text("comment", "exact"))
    annotate(api, paris, preference(side(paris_data, "Paris.")))
    annotate(api, paris, preference("left"), was_cancelled=True)

    pulled = pull_project(server, report.project, index, log.rating)
    assert (pulled.n_new, dict(pulled.skipped)) == (2, {"cancelled": 1})
    assert dict(pulled.raters) == {PERSON: 2}
    index.refresh()
    assert pull_project(server, report.project, index, log.rating).n_known == 2
    assert pull_task(server, moon, index, log.rating).n_known == 1

    rows = list(iter_rows(index, ExportOptions(format="dpo", validation_share=0)))
    assert {
        tuple(row.data[part][-1]["content"] for part in ("prompt", "chosen", "rejected"))
        for row in rows
    } == {
        ("How far is the moon?", "384,400 km.", "Very far."),
        ("The capital of France?", "Paris.", "Rome, I think."),
    }


def test_single_answers_are_rated_with_stars_and_thumbs(api, server, log, index):
    log.interaction(answered("a", "384,400 km."))
    index.refresh()
    report = push_tasks(server, Template.RATINGS, rating_tasks(index.answers(Query())))
    [task] = api.tasks.list(project=report.project.id, fields="all")
    annotate(api, task.id, stars(4), choice("thumb", "Good"), text("edited", "About 384,400."))
    pull_project(server, report.project, index, log.rating)
    index.refresh()
    [rating] = index.all_ratings()
    assert (rating.scale, rating.thumb, rating.edited.content) == (4, "up", "About 384,400.")
    for secret in ("old", "shared"):
        hook = Webhook("http://127.0.0.1:9/v1/feedback/label-studio", secret)
        push_tasks(server, Template.RATINGS, (), project_id=report.project.id, webhook=hook)
    [made] = api.webhooks.list(project=str(report.project.id))
    assert made.headers == {"X-Qwenkit-Secret": "shared"}


def test_what_can_not_be_done_is_said_in_its_own_words(running, server):
    with SdkLabelStudio(running.url, "0" * 40) as stranger, pytest.raises(InvalidSettings) as wrong:
        stranger.find_project("x")
    assert "LABEL_STUDIO_API_KEY" in wrong.value.hint
    with pytest.raises(RemoteError) as missing:
        server.get_project(10_000)
    assert missing.value.status == 404
    with pytest.raises(RemoteError) as invalid:
        server.create_project("Broken", "<View><Text name='a'/></View>", "")
    assert "label_config" in invalid.value.message
    nowhere = SdkLabelStudio("http://127.0.0.1:9", running.token)
    with nowhere, pytest.raises(RemoteUnreachable):
        nowhere.people()
