"""A model behind a pipe: questions come as JSON lines on stdin, answers go out as JSON lines on stdout.

The label page starts it for live mode (`python -m plaudit.speaker RUN`), so that the page itself never loads torch.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TextIO

from plaudit.data.formats import messages_of, prompt_of
from plaudit.data.responses import distinct_responses
from plaudit.models.generate import generate, sample_key
from plaudit.talk import Manner, Speaker, speakers_of
from plaudit.types import InputError, PlauditError, Prompt, Response, Sampling

LIVE = -4_000_000
"""The occasion on which a model answers an annotator, beside those on which a run's models speak."""
WARMTH = (1.0, 1.5, 2.0)
"""Times the temperature, round after round until so many different answers have come: a sure model repeats itself."""


class Answering:
    """The newest model of a run, a model folder, or a name; each sample of a prompt is drawn anew."""

    def __init__(self, path: str) -> None:
        self.speaker: Speaker = speakers_of(path, Manner(), compare=False)[-1]
        self.checkpoint = f"{path}: {self.speaker.name}"
        self._times: Counter[str] = Counter()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        prompt = prompt_of(messages_of(question["messages"], "the question"))
        count, found = int(question["count"]), list[Response]()
        for warmth in WARMTH:
            # those that came first stay: they are drawn as the model usually speaks
            samples = self._samples(prompt, count - len(found), warmth)
            known = {one.text for one in found}
            found += [one for one in distinct_responses(samples) if one.text not in known]
            if len(found) >= count:
                break
        if len(found) < 2:
            raise PlauditError("it says the same thing each time, so that there is nothing to rank")
        return {
            "checkpoint": self.checkpoint,
            "responses": [
                {"text": one.text, "finished": one.finished, "sampling": asdict(one.sampling or Sampling())}
                for one in found
            ],
        }

    def _samples(self, prompt: Prompt, count: int, warmth: float) -> list[Response]:
        one = self.speaker
        ids = one.chat.prompt_ids(prompt)
        room = one.context - len(ids)
        if room < 1:
            raise InputError(f"that is {len(ids)} tokens and {one.context} can be read; say it more briefly")
        sampling = replace(
            one.sampling,
            # the likeliest answer alone would be the same each time
            temperature=warmth * (one.sampling.temperature or 1.0),
            max_new_tokens=min(one.sampling.max_new_tokens, room),
        )
        keys = [sample_key(sampling.seed, LIVE, prompt.id, self._times[prompt.id] + i) for i in range(count)]
        self._times[prompt.id] += count
        made = generate(
            one.decoder,
            [ids] * count,
            keys,
            sampling,
            eos_ids=one.chat.eos_ids,
            stopped=one.chat.stopper(sampling.stop),
        )
        return [
            Response(text=one.chat.text_of(m.tokens, sampling.stop), sampling=sampling, finished=m.finished)
            for m in made
        ]


def serve(path: str, questions: TextIO, answers: TextIO) -> None:
    """One answer a line until the questions end. What cannot be answered is answered by its reason."""
    try:
        answering: Answering | PlauditError = Answering(path)
    except PlauditError as error:
        answering = error
    for line in questions:
        try:
            if isinstance(answering, PlauditError):
                raise answering
            reply = answering.answer(json.loads(line))
        except PlauditError as error:
            reply = {"error": str(error)}
        answers.write(json.dumps(reply, ensure_ascii=False) + "\n")
        answers.flush()


def main() -> None:
    pipe = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    for stream in (sys.stdin, pipe):
        stream.reconfigure(encoding="utf-8", errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    serve(sys.argv[1], sys.stdin, pipe)


if __name__ == "__main__":
    main()
