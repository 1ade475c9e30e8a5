# SPDX-License-Identifier: Apache-2.0
"""The schemas that the documentation publishes."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import jsonschema

DIRECTORY = pathlib.Path(__file__).parents[2] / 'doc/source/schemas'


@functools.lru_cache(None)
def _validator(command: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads((DIRECTORY / f'{command}.json').read_text()))


def valid(command: str, document: Any) -> Any:
    """:raises jsonschema.ValidationError: when ``command -f json`` must not print that"""
    _validator(command).validate(document)
    return document
