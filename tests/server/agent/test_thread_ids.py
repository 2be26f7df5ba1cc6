"""A thread's id is the client's choice: nothing of it may leave its place."""

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.anyio

RUN = {
    "assistant_id": "agent",
    "input": {"messages": [{"role": "user", "content": "hello"}]},
    "if_not_exists": "create",
}
IDS = ["a\r\nSet-Cookie: b", "日本", "a\0b", "../../etc/passwd", "a\\b", "a/b?c#d", "%2e%2e"]


async def test_a_run_on_a_thread_of_any_id_says_where_it_is_in_one_header(client, tmp_path):
    for thread_id in IDS:
        place = f"/agent/threads/{quote(thread_id, safe='')}"
        made = await client.post("/agent/threads", json={"thread_id": thread_id})
        assert made.json()["thread_id"] == thread_id
        for kind in ("runs", "runs/stream"):
            reply = await client.post(f"{place}/{kind}", json=RUN)
            # What is no segment of a path reaches no thread.
            expected = 404 if "/" in thread_id else 200
            assert reply.status_code == expected, (thread_id, reply.text)
            assert "set-cookie" not in reply.headers
            if expected == 200:
                where = reply.headers["content-location"]
                assert where.startswith(f"/threads/{quote(thread_id, safe='')}/runs/")
    assert not [each for each in tmp_path.rglob("*") if "passwd" in each.name]
