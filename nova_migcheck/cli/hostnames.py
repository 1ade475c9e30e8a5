# SPDX-License-Identifier: Apache-2.0
"""Many host names in few words: ``compute[1-3,7]``."""

from __future__ import annotations

import re
from typing import Sequence

_NUMBERED = re.compile(r'(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)', re.DOTALL)


def fold(names: Sequence[str], most: int = 0) -> str:
    """The names, those that differ in their last number only as ranges.

    :param most: of the parts, after which only the rest's count is told; 0 for all
    """
    groups: dict[tuple[str, str, int], list[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None or not match['number'].isascii() or len(match['number']) > 15:
            groups[name, '', -1] = []
            continue
        # 01 and 1 are different names: what has a leading zero is of a group of its width.
        number = match['number']
        groups.setdefault((match['before'], match['after'], len(number) if number[0] == '0' else 0), []).append(int(number))
    parts = [before if width < 0 else _ranges(before, after, width, sorted(set(numbers)))
             for (before, after, width), numbers in groups.items()]
    if most and len(parts) > most:
        return ' '.join(parts[:most]) + f' and {len(parts) - most} more'
    return ' '.join(parts)


def _ranges(before: str, after: str, width: int, numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [f'{first:0{width}d}' if first == last else f'{first:0{width}d}-{last:0{width}d}' for first, last in spans]
    if len(numbers) == 1:
        return f'{before}{words[0]}{after}'
    return f'{before}[{",".join(words)}]{after}'
