# SPDX-License-Identifier: Apache-2.0
"""Fold host names into ranges: ``compute[1-3,7]``."""

from __future__ import annotations

import collections
import functools
import re
from typing import Sequence

_NUMBERED = re.compile(r'(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)', re.DOTALL)

# Size of the caches. The hosts of a cloud are the same in every request.
_KEPT = 1 << 15


def fold(names: Sequence[str], most: int = 0, count: bool = True) -> str:
    """Return the names in one text. Names that differ only in their last number become ranges.

    :param most: how many names and ranges to write out; 0 for all
    :param count: whether to append the number of hosts when some were left out
    """
    if len(names) == 1:
        return names[0]
    groups: collections.defaultdict[_Group, list[int]] = collections.defaultdict(list)
    for name in names:
        group, number = _split(name)
        groups[group].append(number)
    left = most or len(names)
    parts = []
    for group, numbers in groups.items():
        before, after, width = group.before, group.after, group.width
        if left <= 0:
            break
        distinct = sorted(set(numbers))
        spans = [_range_text(first, last, width) for first, last in _spans(distinct)]
        cut = [*spans[:left], '…'] if len(spans) > left else spans
        parts.append(before + (cut[0] if len(distinct) < 2 else f'[{",".join(cut)}]') + after)
        left -= len(spans)
    whole = left >= 0 and len(parts) == len(groups)
    shown = ' '.join(parts)
    return shown if whole or not count else f'{shown} ({len(set(names))} hosts)'


def _range_text(first: int, last: int, width: int) -> str:
    ends = [first] if first == last else [first, last]
    return '' if width < 0 else '-'.join(f'{number:0{width}d}' for number in ends)


class _Group:
    """Names that differ only in their last number.

    There is one object for each such set of names, so groups are compared by identity.

    :param before: the text before that number
    :param after: the text after it
    :param width: its width when it has leading zeros, 0 when it has none, -1 if there is no number
    """

    def __init__(self, before: str, after: str, width: int) -> None:
        self.before, self.after, self.width = before, after, width


_group = functools.lru_cache(_KEPT)(_Group)


@functools.lru_cache(_KEPT)
def _split(name: str) -> tuple[_Group, int]:
    """Return the group of a name, and its number there."""
    match = _NUMBERED.fullmatch(name)
    if match is None or not match['number'].isascii() or len(match['number']) > 15:
        return _group(name, '', -1), 0
    # 01 and 1 are different names: a number with leading zeros belongs to a group of its width.
    number = match['number']
    width = len(number) if number[0] == '0' < number else 0
    return _group(match['before'], match['after'], width), int(number)


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return [(numbers[0], numbers[-1])]
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans
