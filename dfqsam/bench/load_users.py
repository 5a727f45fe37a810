"""Clients of ``dfqsam serve`` for locust, which :mod:`dfqsam.bench.serve_load` starts.

Each sends drawn pictures, half of the time once for several prompts (``/v1/images``), half of the time with a prompt
each (``/v1/segment``), and asks again as soon as it is answered. It waits where it is told to (429), which is no error.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import Any

import cv2
import numpy as np
from locust import FastHttpUser, task

HELD = "429"
BOUNDARY = "dfqsam-load"
SIDE, PROMPTS = 512, 3
FORMATS = ("json", "png", "coco")
DIFFERENT = int(os.environ.get("DFQSAM_LOAD_PICTURES", "2000"))


def picture(number: int) -> bytes:
    """A PNG of 512 x 512 with an ellipse on noise, another for every number."""
    rng = np.random.default_rng(number)
    image = rng.integers(30, 90, (SIDE, SIDE), np.uint8)
    centre = tuple(int(v) for v in rng.integers(150, 360, 2))
    cv2.ellipse(image, centre, (90, 60), float(rng.integers(180)), 0, 360, 190, -1)
    return cv2.imencode(".png", cv2.GaussianBlur(image, (5, 5), 0))[1].tobytes()


def form(image: bytes, **texts: str) -> dict[str, Any]:
    """A multipart form as what the client's ``post`` takes."""
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in texts.items()]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    return {"data": body, "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}}


def box() -> list[float]:
    """A box somewhere in the picture."""
    x, y = random.uniform(0, SIDE / 2), random.uniform(0, SIDE / 2)
    return [x, y, x + random.uniform(60, SIDE / 2 - 1), y + random.uniform(60, SIDE / 2 - 1)]


class Client(FastHttpUser):
    """One client."""

    connection_timeout = network_timeout = 90.0

    def ask(self, path: str, name: str, **options: Any) -> Any:
        """Post until it is answered; the answer, None where it is an error."""
        while True:
            with self.client.post(path, name=name, catch_response=True, **options) as got:
                answer: Any = got
                if answer.status_code != 429:
                    if answer.status_code not in (200, 201):
                        answer.failure(f"{answer.status_code} {answer.text}"[:300])
                        return None
                    return answer
                answer.request_meta["name"] = HELD
                answer.success()
                wait = float(answer.headers.get("Retry-After") or 1)
            time.sleep(wait)

    @task
    def with_a_prompt_each(self) -> None:
        """Picture and prompt together, in one of the formats."""
        prompts = json.dumps([{"box": box()}])
        sent = form(picture(random.randrange(DIFFERENT)), prompts=prompts, format=random.choice(FORMATS))
        self.ask("/v1/segment", "picture and prompt", **sent)

    @task
    def once_for_several_prompts(self) -> None:
        """A picture, then prompts on it."""
        kept = self.ask("/v1/images", "picture", **form(picture(random.randrange(DIFFERENT))))
        if kept is None:
            return
        for _ in range(PROMPTS):
            question = {"prompts": [{"box": box()}], "format": random.choice(FORMATS)}
            self.ask(f"/v1/images/{kept.json()['id']}/segment", "prompt", json=question)
