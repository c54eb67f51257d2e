"""How the JSON API says no, for its description: one sentence of what must hold, what was found, and what to do."""

from typing import Any

from pydantic import BaseModel


class Refusal(BaseModel):
    """Why something was not done."""

    error: str


Answers = dict[int | str, dict[str, Any]]
REFUSED: Answers = {422: {"model": Refusal, "description": "what was asked cannot be, or what is kept cannot be believed"}}
NOT_FOUND: Answers = {404: {"model": Refusal, "description": "there is no such thing here"}}
