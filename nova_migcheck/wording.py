# SPDX-License-Identifier: Apache-2.0
"""Put lists and numbers into the texts that people read.

A text is one whole template, so that another language can have another order: what is left out with
some values has a template of its own, and no word is put together from its halves.
``tests/unit/test_wording.py`` finds what is not.
"""

from __future__ import annotations

from typing import Iterable, Sequence


def some(texts: Sequence[str], most: int) -> str:
    """Return the first ``most`` of several texts, and how many more there are."""
    shown = ', '.join(texts[:most])
    return f'{shown} and {len(texts) - most} more' if len(texts) > most else shown


def either(texts: Iterable[str]) -> str:
    """Return the texts, of which one holds."""
    return ' or '.join(texts)


def both(texts: Iterable[str]) -> str:
    """Return the texts, all of which hold."""
    return ' and '.join(texts)


def ordered(texts: Iterable[str]) -> str:
    """Return the texts, of which each is for when those before it do not hold."""
    return ', then '.join(texts)


def counted(number: int, one: str, several: str) -> str:
    """Return the template for a number, with the number in it.

    :param one: for 1; its ``{}`` is the number, also in ``several``
    """
    return (one if number == 1 else several).format(number)
