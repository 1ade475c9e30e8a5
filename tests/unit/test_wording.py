# SPDX-License-Identifier: Apache-2.0
"""Lists and numbers in texts; and that no text is put together from halves of sentences."""

import ast
import pathlib
import re

import pytest

import nova_migcheck
from nova_migcheck import wording

PACKAGE = pathlib.Path(nova_migcheck.__file__).parent
# The values of an attribute in libvirt's XML, which nobody translates.
NO_SENTENCE = {'cpu/xml.py'}
# How a half begins: with what stands between the words of a sentence, or with a plural's end.
BEGINS = re.compile(r'[ ,;:(].*[A-Za-z]|s\b', re.DOTALL)


def test_some():
    assert wording.some([], 2) == ''
    assert wording.some(['a', 'b'], 2) == 'a, b'
    assert wording.some(['a', 'b', 'c', 'd'], 2) == 'a, b and 2 more'


def test_of_several():
    assert wording.either(['a', 'b']) == 'a or b'
    assert wording.both(['a', 'b']) == 'a and b'
    assert wording.ordered(['a', 'b']) == 'a, then b'


@pytest.mark.parametrize('number, text', [(0, '0 hosts'), (1, '1 host'), (2, '2 hosts')])
def test_counted(number, text):
    assert wording.counted(number, '{} host', '{} hosts') == text


def words(node):
    """Return a text with ``{}`` for the values in it; '' if it is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ''
    if isinstance(node, ast.JoinedStr):
        return ''.join(words(part) or '{}' for part in node.values)
    return ''


def is_half(node):
    """Return whether a branch is a text of which the other branch has nothing."""
    branches = [words(node.body), words(node.orelse)]
    return '' in branches and any(map(BEGINS.match, branches))


def is_sentence(text):
    return re.search('[a-z]', text) and ' ' in text


def halves(source):
    """Yield the number of each line that puts a text together from halves."""
    for node in ast.walk(ast.parse(source)):
        found = False
        if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
            branches = (words(node.value.body), words(node.value.orelse))
            found = any(re.search('[a-z]', text) for text in branches)
        elif isinstance(node, ast.IfExp):
            found = is_half(node)
        elif isinstance(node, ast.AugAssign):
            found = is_sentence(words(node.value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            found = is_sentence(words(node.left)) or is_sentence(words(node.right))
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'join':
            found = re.search('[a-z]', words(node.func.value))
        if found:
            yield node.lineno


@pytest.mark.parametrize(
    'line',
    [
        'f\'{n} host{"s" if n > 1 else ""}\'',
        'f\'the host{"s are" if n > 1 else " is"} empty\'',
        "more = f' and {n} more' if n else ''",
        "text += f' at {address}'",
        "'none of them answers: ' + listed",
        "' and '.join(names)",
    ],
)
def test_a_half_is_found(line):
    assert list(halves(line)) == [1] or len(set(halves(line))) == 1


@pytest.mark.parametrize(
    'line',
    [
        "'the hosts are empty' if n > 1 else 'the host is empty'",
        "'' if found else f'no address of this host is in {networks}'",
        "', '.join(names)",
        "f'{uri}?no_tty=1' if ask else uri",
        "found += ['a b']",
    ],
)
def test_a_whole_text_is_none(line):
    assert not list(halves(line))


def test_no_text_is_put_together_from_halves():
    found = [
        f'{name}:{line}'
        for path in sorted(PACKAGE.rglob('*.py'))
        if (name := str(path.relative_to(PACKAGE))) not in {*NO_SENTENCE, 'wording.py'}
        for line in halves(path.read_text())
    ]
    assert found == []


def test_no_plural_of_a_page_is_put_together():
    pages = sorted((PACKAGE / 'cli/templates').glob('*.html'))
    assert len(pages) > 1
    assert [page.name for page in pages if re.search(r"\{\{ *'s'", page.read_text())] == []
