"""Answers to judge, and a stand-in for Label Studio that keeps what it is given."""

import json
from itertools import count
from pathlib import Path

import pytest

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.label_studio.client import Project
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import AnswerText, Interaction, TokenCounts, hash_prompt

PEOPLE = {1: "ann@example.com", 2: "bob@example.com"}


def answered(name, text, *, question="How far is the moon?", second=0, **fields):
    """An answer to a prompt as the log has it."""
    return Interaction(
        **{
            "id": name,
            "created_at": f"2026-11-25T10:00:{second:02}.000000Z",
            "source": "api",
            "model": "qwen",
            "prompt_hash": hash_prompt(question),
            "template_hash": "t",
            "finish_reason": "stop",
            "usage": TokenCounts(prompt=3, completion=2),
            "thread_id": "thread",
            "messages": ({"role": "user", "content": question},),
            "answer": AnswerText(content=text, reasoning_content=f"thinking of {text}"),
        }
        | fields
    )


class StandIn:
    """What pushing and pulling see of Label Studio, in memory."""

    def __init__(self):
        self.projects, self.tasks, self.webhooks = {}, {}, []
        self.n_imports = 0
        self._numbers = count(1)

    def find_project(self, title):
        return next((each for each in self.projects.values() if each.title == title), None)

    def get_project(self, project_id):
        return self.projects[project_id]

    def create_project(self, title, config, instruction):
        assert instruction
        project = Project(id=next(self._numbers), title=title, config=config)
        self.projects[project.id], self.tasks[project.id] = project, []
        return project

    def configure(self, project, config):
        self.projects[project.id] = Project(id=project.id, title=project.title, config=config)

    def task_data(self, project):
        yield from (task["data"] for task in self.tasks[project.id])

    def import_tasks(self, project, tasks):
        self.n_imports += 1
        for task in tasks:
            made = {"id": next(self._numbers), "project": project.id, "annotations": []}
            self.tasks[project.id].append(made | json.loads(json.dumps(task)))
        return len(tasks)

    def annotated_tasks(self, project):
        return [task for task in self.tasks[project.id] if task["annotations"]]

    def task(self, task_id):
        tasks = (task for tasks in self.tasks.values() for task in tasks)
        task = next(task for task in tasks if task["id"] == task_id)
        return task | {"annotations": [_by_name(each) for each in task["annotations"]]}

    def people(self):
        return PEOPLE

    def put_webhook(self, project, url, secret):
        others = [hook for hook in self.webhooks if hook[:2] != (project.id, url)]
        self.webhooks = [*others, (project.id, url, secret)]

    def annotate(self, task, *results, person=1, at="2026-11-25T12:00:00.000000Z", **more):
        """Judge a task as a person does in the browser."""
        annotation = {
            "id": next(self._numbers),
            "completed_by": person,
            "result": list(results),
            "was_cancelled": False,
            "created_at": at,
            "updated_at": at,
        }
        task["annotations"].append(annotation | more)
        return task["annotations"][-1]


def _by_name(annotation):
    """As a task alone has it: with the person, where an export has the number."""
    person = annotation["completed_by"]
    if isinstance(person, int):
        person = {"id": person, "email": PEOPLE[person]}
    return annotation | {"completed_by": person}


@pytest.fixture
def label_studio():
    return StandIn()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "feedback"


@pytest.fixture
def log(folder):
    log = FeedbackLog(folder)
    yield log
    log.close()


@pytest.fixture
def index(folder):
    index = FeedbackIndex(folder)
    yield index
    index.close()
