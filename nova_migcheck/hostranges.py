# SPDX-License-Identifier: Apache-2.0
"""Many host names in few words: ``compute[1-3,7]``."""

from __future__ import annotations

import collections
import functools
import re
from typing import Sequence

_NUMBERED = re.compile(r'(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)', re.DOTALL)

# Names that are kept taken apart: a cloud's hosts are the same ones in each request.
_KEPT = 1 << 15


def fold(names: Sequence[str], most: int = 0, count: bool = True) -> str:
    """The names; those that differ in their last number only as ranges.

    :param most: names and ranges that are written out, after which the number of all is told instead; 0 for all
    :param count: whether it is told
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
        spans = ['' if width < 0 else f'{first:0{width}d}' if first == last else f'{first:0{width}d}-{last:0{width}d}'
                 for first, last in _spans(distinct)]
        cut = [*spans[:left], '…'] if len(spans) > left else spans
        parts.append(before + (cut[0] if len(distinct) < 2 else f'[{",".join(cut)}]') + after)
        left -= len(spans)
    whole = left >= 0 and len(parts) == len(groups)
    return ' '.join(parts) + ('' if whole or not count else f' ({len(set(names))} hosts)')


class _Group:
    """Names that differ in their last number only. There is one of each, which is found by its identity.

    :param before: what stands before that number
    :param after: what stands after it
    :param width: to which it is filled up with zeros; 0 when it is not; -1 when there is no number
    """

    def __init__(self, before: str, after: str, width: int) -> None:
        self.before, self.after, self.width = before, after, width


_group = functools.lru_cache(_KEPT)(_Group)


@functools.lru_cache(_KEPT)
def _split(name: str) -> tuple[_Group, int]:
    """The group of a name, and its number there."""
    match = _NUMBERED.fullmatch(name)
    if match is None or not match['number'].isascii() or len(match['number']) > 15:
        return _group(name, '', -1), 0
    # 01 and 1 are different names: what has a leading zero is of a group of its width.
    number = match['number']
    return _group(match['before'], match['after'], len(number) if number[0] == '0' < number else 0), int(number)


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
