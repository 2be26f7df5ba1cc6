"""Tasks come to a project once each."""

import pytest

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.label_studio.push import BATCH, Webhook, push_tasks
from qwenkit.feedback.label_studio.tasks import KEY
from qwenkit.feedback.label_studio.templates import CONFIGS, TITLES, Template


def tasks(*names):
    return [{KEY: name} for name in names]


def test_the_first_push_makes_the_project_and_the_next_adds_what_is_new(label_studio):
    first = push_tasks(label_studio, Template.PAIRS, tasks("a", "b"))
    again = push_tasks(label_studio, Template.PAIRS, tasks("b", "c", "c"))
    assert (first.created, first.n_imported, first.n_there) == (True, 2, 0)
    assert (again.created, again.n_imported, again.n_there) == (False, 1, 2)
    assert again.project == first.project
    assert first.project.title == TITLES[Template.PAIRS]
    assert [each[KEY] for each in label_studio.task_data(first.project)] == ["a", "b", "c"]


def test_nothing_new_is_no_import(label_studio):
    push_tasks(label_studio, Template.PAIRS, tasks("a"))
    push_tasks(label_studio, Template.PAIRS, tasks("a"))
    assert label_studio.n_imports == 1


def test_many_tasks_are_imported_in_steps(label_studio):
    report = push_tasks(label_studio, Template.RATINGS, tasks(*map(str, range(BATCH + 1))))
    assert (report.n_imported, label_studio.n_imports) == (BATCH + 1, 2)


def test_a_project_of_ours_gets_the_page_of_today(label_studio):
    made = push_tasks(label_studio, Template.PAIRS, tasks("a")).project
    label_studio.configure(made, CONFIGS[Template.PAIRS].replace("Why?", "Because?"))
    push_tasks(label_studio, Template.PAIRS, tasks("a"))
    assert label_studio.get_project(made.id).config == CONFIGS[Template.PAIRS]


def test_an_empty_project_can_be_named(label_studio):
    mine = label_studio.create_project("Mine", "<View></View>", "-")
    report = push_tasks(label_studio, Template.PAIRS, tasks("a"), project_id=mine.id)
    assert (report.created, report.project.title) == (False, "Mine")
    assert label_studio.get_project(mine.id).config == CONFIGS[Template.PAIRS]


@pytest.mark.parametrize("config", ["<View><Text name='x' value='$x'/></View>", "ratings"])
def test_a_project_that_asks_for_something_else_stays_as_it_is(label_studio, config):
    config = CONFIGS[Template.RATINGS] if config == "ratings" else config
    theirs = label_studio.create_project("Theirs", config, "-")
    with pytest.raises(InvalidRequest):
        push_tasks(label_studio, Template.PAIRS, tasks("a"), project_id=theirs.id)
    assert label_studio.get_project(theirs.id).config == config
    assert not list(label_studio.task_data(theirs))


def test_annotations_are_sent_to_us_where_that_is_asked_for(label_studio):
    hook = Webhook("https://qwenkit.example/v1/feedback/label-studio", "secret")
    report = push_tasks(label_studio, Template.PAIRS, tasks("a"), webhook=hook)
    push_tasks(label_studio, Template.PAIRS, tasks("a"), webhook=hook)
    assert report.webhook == hook.url
    assert label_studio.webhooks == [(report.project.id, hook.url, hook.secret)]


def test_another_secret_takes_the_place_of_the_one_before(label_studio):
    for secret in ("old", "new"):
        hook = Webhook("https://qwenkit.example/v1/feedback/label-studio", secret)
        push_tasks(label_studio, Template.PAIRS, (), webhook=hook)
    assert [each[2] for each in label_studio.webhooks] == ["new"]
