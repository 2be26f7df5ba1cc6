"""Several replicas that share the cores against one with all of them: tokens a second, in pairs.

    python tests/cluster/throughput.py --model model.gguf --replicas 2 --cores 2

Both are Ray's, with the same clients in all and as many threads in all as there are cores. Both are
served all the time and take turns at being asked, the first one each time another, so that whatever
else the machine does befalls both alike. Prints every round and the median ratio as JSON.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from conftest import Cluster, serving


def shares(replicas: int, *, cores: int) -> dict[str, str]:
    """Settings of so many replicas that share cores."""
    n_threads = cores // replicas
    return {
        "RAY_REPLICAS": str(replicas),
        "RAY_REPLICA_CPUS": str(n_threads),
        "N_THREADS": str(n_threads),
    }


def tokens_a_second(cluster: Cluster, *, clients: int, seconds: float, n_tokens: int) -> float:
    """Tokens of answers begun within the time, over the time till the last of them ends."""
    with cluster.client() as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
    begin = time.perf_counter()

    def ask(n: int) -> int:
        total = 0
        with cluster.client() as client:
            while time.perf_counter() - begin < seconds:
                body = {
                    "model": model,
                    "prompt": f"client {n} has asked for {total} tokens and now says",
                    "max_tokens": n_tokens,
                    "ignore_eos": True,
                }
                answer = client.post("/v1/completions", json=body)
                if answer.status_code != httpx.codes.OK:
                    raise SystemExit(answer.text)
                total += answer.json()["usage"]["completion_tokens"]
        return total

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        total = sum(pool.map(ask, range(clients)))
    return total / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a GGUF; the demo model where there is none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--n-tokens", type=int, default=64)
    given = parser.parse_args()
    if given.cores % given.replicas:
        parser.error("--cores must be a multiple of --replicas")
    model = {"MODEL_PATH": str(Path(given.model).resolve())} if given.model else {}
    load = {"clients": given.clients, "seconds": given.seconds, "n_tokens": given.n_tokens}
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / each for each in ("one", "many")]
        for folder in folders:
            folder.mkdir()
        settings = [model | shares(n, cores=given.cores) for n in (1, given.replicas)]
        with (
            serving(folders[0], **settings[0]) as one,
            serving(folders[1], **settings[1]) as many,
        ):
            for cluster in (one, many):
                tokens_a_second(cluster, clients=given.clients, seconds=3, n_tokens=8)
            for n in range(given.rounds):
                order = (one, many) if n % 2 else (many, one)
                speed = {cluster.url: tokens_a_second(cluster, **load) for cluster in order}
                rounds.append({"one": speed[one.url], "many": speed[many.url]})
                print(json.dumps(rounds[-1]), flush=True)
    ratios = [speed["many"] / speed["one"] for speed in rounds]
    print(json.dumps({"ratio": statistics.median(ratios), "ratios": ratios, **load}))


if __name__ == "__main__":
    main()
