# SPDX-License-Identifier: Apache-2.0
"""Many host names in few words: ``compute[1-3,7]``."""

from __future__ import annotations

import re
from typing import Sequence

_NUMBERED = re.compile(r'(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)', re.DOTALL)


def fold(names: Sequence[str], most: int = 0) -> str:
    """The names; those that differ in their last number only as ranges.

    :param most: names and ranges that are written out, after which the number of all is told instead; 0 for all
    """
    groups: dict[tuple[str, str, int], list[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None or not match['number'].isascii() or len(match['number']) > 15:
            groups[name, '', -1] = []
            continue
        # 01 and 1 are different names: what has a leading zero is of a group of its width.
        number = match['number']
        groups.setdefault((match['before'], match['after'], len(number) if number[0] == '0' < number else 0), []).append(int(number))
    left = most or len(names)
    parts = []
    for (before, after, width), numbers in groups.items():
        if left <= 0:
            break
        spans = ['' if width < 0 else f'{first:0{width}d}' if first == last else f'{first:0{width}d}-{last:0{width}d}'
                 for first, last in _spans(sorted(set(numbers)))] or ['']
        cut = [*spans[:left], '…'] if len(spans) > left else spans
        parts.append(before + (cut[0] if len(set(numbers)) < 2 else f'[{",".join(cut)}]') + after)
        left -= len(spans)
    whole = left >= 0 and len(parts) == len(groups)
    return ' '.join(parts) + ('' if whole else f' ({len(set(names))} hosts)')


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans
