"""Fifty people at the label page: how long every request takes, and whether a judgement is ever lost or doubled.

    python benchmarks/label_load.py                      # 50 judgements a second until there are 20,000
    python benchmarks/label_load.py --kills 10           # the same, the server killed (-9) and started again ten times
    python benchmarks/label_load.py --judgements 500     # a short look

A real `plaudit label` serves a project in a temporary folder; people sign in, and each does over HTTP what the page's
script does: send an answer, fetch the task after the next one, keep and send again what was not taken. It is an open
loop: answers fall due at a fixed rate whether or not the server keeps up, and a request's time counts from the moment
it was due. Left out of the times, and counted apart: signing in, and what was under way between a kill and two seconds
after the server answered again. Writes benchmarks/results/label_load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from plaudit.data.formats import prompt_of
from plaudit.data.responses import response_row
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import open_desk
from plaudit.feedback.web.sessions import hash_password
from plaudit.recipe import Recipe
from plaudit.recipe_file import dump_recipe
from plaudit.types import Message, Response, Sampling

RESULTS = Path(__file__).resolve().parent / "results" / "label_load.json"
PASSWORD = "seven green kites"
RESPONSES, OVERLAP = 4, 2
SETTLING = 2.0
"""Seconds after the server answers again that do not count."""
LIMIT = 1500.0
"""Seconds after which everything stops, whatever has happened."""


@dataclass
class Load:
    people: int
    judgements: int
    rate: float
    kills: int
    seed: int


@dataclass
class Measured:
    """(due, ended, seconds) by kind of request, and what was answered."""

    times: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])
    kept: dict[str, str] = field(default_factory=dict[str, str])
    """Hand-out token -> the judgement's id that the server answered with."""
    statuses: Counter[str] = field(default_factory=Counter[str])
    breaks: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    sent_again: int = 0

    def note(self, kind: str, due: float, status: int) -> None:
        self.times.setdefault(kind, []).append((due, time.monotonic()))
        self.statuses[f"{kind} {status}"] += 1


# -- the project and its server ---------------------------------------------------------------------------------------

WORDS = "the a river of light runs over old stones and nobody knows why it sings at night when rain falls on tin roofs"


def make_run(folder: Path, load: Load) -> Desk:
    """A run whose responses are sampled: as many tasks as the load needs, and a little more."""
    rng, words = random.Random(load.seed), WORDS.split()
    recipe = Recipe(name=folder.name, out=folder.parent, world="plaudit.worlds:load_bramford", seed=load.seed)
    recipe = recipe.model_copy(
        update={"feedback": recipe.feedback.model_copy(update={"judgements_per_prompt": OVERLAP})}
    )
    sampled = folder / "round_0" / "responses"
    sampled.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    (sampled / "manifest.json").write_text(json.dumps({"status": "done"}), encoding="utf-8")
    sampling = Sampling(max_new_tokens=64)
    with (sampled / "responses.jsonl").open("w", encoding="utf-8") as file:
        for number in range(load.judgements // OVERLAP + 4 * load.people):
            prompt = prompt_of(
                [Message(role="user", content=f"Question {number}: {' '.join(rng.choices(words, k=12))}?")]
            )
            for i in range(RESPONSES):
                text = f"{i}. **{rng.choice(words)}** " + " ".join(rng.choices(words, k=rng.randint(20, 120)))
                row = response_row(prompt, Response(text=text, checkpoint="sft", sampling=sampling))
                file.write(json.dumps(row) + "\n")
    desk = open_desk(folder)
    hashed = hash_password(PASSWORD)
    for i in range(load.people):
        desk.add_account(f"person {i}", "annotator", hashed)
    return desk


class Server:
    """`plaudit label` in a process of its own."""

    def __init__(self, run: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.run = run
        self.log = (run / "server.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        address = ["--port", str(self.port), "--url", f"http://127.0.0.1:{self.port}", "--no-open"]
        command = [sys.executable, "-m", "plaudit", "label", str(self.run), *address]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
        self.log.close()

    async def ready(self, seconds: float = 60.0) -> float:
        """Seconds until it answers."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            line = Line(self.port)
            try:
                if (await line.ask("GET", "/healthz")).status == 200:
                    return time.monotonic() - began
            except OSError:
                await asyncio.sleep(0.02)
            finally:
                line.close()
        raise RuntimeError(f"the server does not answer; see {self.log.name}")


# -- one person's browser ---------------------------------------------------------------------------------------------


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection that is kept, as a browser keeps it. Little is parsed: the clients share the server's machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, form: Iterable[tuple[str, str]] = (), token: str = "") -> Reply:
        """OSError where the connection fails."""
        body = urlencode(list(form)).encode()
        head = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", f"cookie: {self.cookie}"]
        if method == "POST":
            head += ["content-type: application/x-www-form-urlencoded", f"content-length: {len(body)}"]
            head += ["accept: application/json" if token else "accept: text/html", f"x-csrf-token: {token}"]
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self._streams
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            return await asyncio.wait_for(self._reply(reader), 20)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.close()
            raise OSError("the connection failed") from error

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        if "set-cookie" in headers:
            self.cookie = headers["set-cookie"].split(";")[0]
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(first.split()[1]), headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def token_in(page: bytes) -> str | None:
    found = re.search(rb'data-token="([^"]+)"', page)
    return found[1].decode() if found else None


@dataclass
class Person:
    name: str
    line: Line
    measured: Measured
    rng: random.Random
    csrf: str = ""
    task: str | None = None
    ahead: str | None = None
    due: asyncio.Queue[float | None] = field(default_factory=asyncio.Queue[float | None])

    async def sign_in(self) -> None:
        page = await self.line.ask("GET", "/sign-in")
        form = [("csrf", self._csrf(page)), ("name", self.name), ("password", PASSWORD)]
        answer = await self.line.ask("POST", "/sign-in", form)
        assert answer.status == 303, (answer.status, answer.body)
        page = await self.line.ask("GET", "/rank")
        self.csrf, self.task = self._csrf(page), token_in(page.body)
        await self._fetch_ahead(None)

    def _csrf(self, page: Reply) -> str:
        found = re.search(rb'data-csrf="(\w+)"', page.body)
        assert found is not None, page.body
        return found[1].decode()

    async def work(self) -> None:
        """Answer whenever an answer falls due, until None does."""
        while (due := await self.due.get()) is not None:
            if self.task is None:
                self.task = token_in((await self._surely("look", time.monotonic(), "GET", "/rank/next")).body)
            if self.task is None:
                continue
            await self._submit(self.task, due)
            self.task, self.ahead = self.ahead, None
            if self.task is not None:
                await self._fetch_ahead(time.monotonic())

    async def _submit(self, token: str, due: float) -> None:
        places = [str(self.rng.randint(1, RESPONSES)) for _ in range(RESPONSES)]
        form = [("action", "submit"), ("seconds", "20"), *((f"rank-{i}", place) for i, place in enumerate(places))]
        reply = await self._surely("submit", due, "POST", f"/hand-out/{token}", form)
        if reply.status == 200:
            self.measured.kept[token] = json.loads(reply.body)["kept"]

    async def _fetch_ahead(self, due: float | None) -> None:
        reply = await self._surely("ahead", due or time.monotonic(), "GET", f"/rank/next?after={self.task}")
        self.ahead = token_in(reply.body) if reply.status == 200 else None

    async def _surely(
        self, kind: str, due: float, method: str, path: str, form: Sequence[tuple[str, str]] = ()
    ) -> Reply:
        """Until there is an answer: what failed is sent again, as the page's script does."""
        wait = 0.05
        while True:
            try:
                reply = await self.line.ask(method, path, form, self.csrf)
            except OSError:
                self.measured.sent_again += 1
                await asyncio.sleep(wait * self.rng.uniform(0.75, 1.25))
                wait = min(0.5, wait * 2)
                continue
            self.measured.note(kind, due, reply.status)
            return reply


# -- the load ---------------------------------------------------------------------------------------------------------


async def run_load(server: Server, load: Load, measured: Measured) -> float:
    """Seconds from the first answer to the last."""
    rng = random.Random(load.seed)
    people = [
        Person(f"person {i}", Line(server.port), measured, random.Random(load.seed * 1000 + i))
        for i in range(load.people)
    ]
    await asyncio.gather(*(one.sign_in() for one in people))
    measured.times.clear()
    rng.shuffle(people)
    began = time.monotonic()
    killer = asyncio.create_task(_kill_now_and_then(server, load, measured, began))
    working = [asyncio.create_task(one.work()) for one in people]
    for number in range(load.judgements):
        await asyncio.sleep(max(0.0, began + number / load.rate - time.monotonic()))
        people[number % load.people].due.put_nowait(began + number / load.rate)
    for one in people:
        one.due.put_nowait(None)
    await asyncio.gather(*working)
    seconds = time.monotonic() - began
    await killer
    for one in people:
        one.line.close()
    return seconds


async def _kill_now_and_then(server: Server, load: Load, measured: Measured, began: float) -> None:
    length = load.judgements / load.rate
    for number in range(load.kills):
        await asyncio.sleep(max(0.0, began + (number + 1) * length / (load.kills + 1) - time.monotonic()))
        killed = time.monotonic()
        server.kill()
        server.start()
        await server.ready()
        measured.breaks.append((killed, time.monotonic()))


def percentiles(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in SHARES.items()}
    return {"requests": len(ordered)} | {name: round(1000 * value, 1) for name, value in at.items()}


SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}


def counted(measured: Measured) -> dict[str, dict[str, float]]:
    """By kind of request, what was not under way in a break or just after it."""

    def calm(due: float, ended: float) -> bool:
        return not any(due < ready + SETTLING and ended > killed for killed, ready in measured.breaks)

    by_kind = {
        kind: [ended - due for due, ended in times if calm(due, ended)]
        for kind, times in sorted(measured.times.items())
    }
    by_kind["all"] = [one for times in by_kind.values() for one in times]
    return {kind: percentiles(times) for kind, times in by_kind.items() if times}


def audit(run: Path, measured: Measured) -> dict[str, int]:
    """What the store holds against what the people were told."""
    with sqlite3.connect(f"file:{run / 'feedback.db'}?mode=ro", uri=True) as store:
        rows = store.execute("SELECT id, task_id, handle FROM judgements").fetchall()
        places = store.execute("SELECT wanted, taken, done FROM tasks").fetchall()
    stored = [row[0] for row in rows]
    by_task, by_person = Counter(row[1] for row in rows), Counter((row[1], row[2]) for row in rows)
    return {
        "acknowledged": len(measured.kept),
        "stored": len(stored),
        "lost": len(set(measured.kept.values()) - set(stored)),
        "doubled": sum(count - 1 for count in by_person.values())
        + len(measured.kept)
        - len(set(measured.kept.values())),
        "not_acknowledged": len(set(stored) - set(measured.kept.values())),
        "over_assigned": sum(max(0, count - OVERLAP) for count in by_task.values())
        + sum(taken > wanted for wanted, taken, _ in places),
    }


async def measure(load: Load) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="label-load-"))
    server: Server | None = None
    try:
        run = folder / "load"
        make_run(run, load).store.close()
        server = Server(run)
        first = await server.ready()
        measured = Measured()
        seconds = await asyncio.wait_for(run_load(server, load, measured), LIMIT)
        server.close()
        restarts = [round(ready - killed, 2) for killed, ready in measured.breaks]
        return {
            "people": load.people,
            "judgements_per_second_due": load.rate,
            "judgements_per_second_done": round(len(measured.kept) / seconds, 1),
            "seconds": round(seconds, 1),
            "kills": load.kills,
            "seconds_to_start": round(first, 2),
            "seconds_to_restart": {"median": statistics.median(restarts), "max": max(restarts)} if restarts else None,
            "sent_again": measured.sent_again,
            "statuses": dict(sorted(measured.statuses.items())),
            "times": counted(measured),
            "store": audit(run, measured),
        }
    finally:
        if server is not None:
            server.close() if server.process is None or server.process.poll() is not None else server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--judgements", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=50.0, help="judgements a second")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="where the result goes (a full run: results/)")
    given = parser.parse_args()
    load = Load(given.people, given.judgements, given.rate, given.kills, given.seed)
    others = os.getloadavg()[0]
    machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "load_before": round(others, 1)}
    result = asyncio.run(measure(load)) | {"machine": machine}
    print(json.dumps(result, indent=2))
    path = given.out or (RESULTS if given.judgements >= 20_000 else None)
    if path is not None:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known["with kills" if load.kills else "steady"] = result
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
