# SPDX-License-Identifier: Apache-2.0
"""The command lines of the documentation, for the tests that run them.

tests/unit/test_documentation.py sees that there is one for each.
"""

from __future__ import annotations

import functools
import pathlib
import re
import shlex
from typing import Iterator, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
# The runbooks' lines are for a host that is broken, and change it: tests/unit/test_runbooks.py
# parses those of nova-migcheck.
PAGES = (
    *(
        path
        for path in sorted((ROOT / 'doc/source').rglob('*.rst'))
        if path.parent.name not in ('alerts', 'runbooks')
    ),
    *sorted(ROOT.glob('*.rst')),
)

#: What is typed anywhere in the documentation: a line that begins with one of these words is a
#: command line.
PROGRAMS = (
    'nova-migcheck', './run', 'pip', 'openstack', 'tox', 'reno', 'python', 'ping', 'fping', 'virsh',
    'mount', 'apt-get', 'bash', 'chronyc', 'curl', 'docker', 'dpkg-buildpackage', 'git', 'ip',
    'kolla-ansible', 'kolla-build', 'nova-manage', 'nova-status', 'oslo-config-generator',
    'pre-commit', 'pytest', 'ss', 'sudo', 'sysctl', 'systemctl', 'umount')

# An assignment or a directory may stand before it.
_PROGRAM = '|'.join(map(re.escape, PROGRAMS))
_TYPED = re.compile(rf'(?:[A-Z_]+=\S+ +)*(?:/\S+/)?(?:{_PROGRAM})(?: +(?P<words>\S.*))?')
_LITERAL = re.compile(r'(?<![\w:`])``([^`]+)``', re.DOTALL)
_PROMPT = re.compile(r'[$#] ')
_COMMENT = re.compile(r'\s+# .*')


class Line(NamedTuple):
    """A command line.

    :ivar where: page and number of the line
    :ivar text: as it is typed, without a prompt and a remark
    """

    where: str
    text: str


def _of_page(path: pathlib.Path) -> Iterator[Line]:
    text = path.read_text()
    name = path.relative_to(ROOT)
    for number, line in enumerate(text.splitlines(), 1):
        typed = _COMMENT.sub('', _PROMPT.sub('', line.strip(), count=1))
        # A sentence of an indented paragraph may begin with such a word, too; its end is not a
        # command's.
        if line.startswith('   ') and _TYPED.fullmatch(typed) and '``' not in typed and (
                typed.endswith('...') or not typed.endswith(('.', ',', ':', ';'))):
            yield Line(f'{name}:{number}', typed)
    for found in _LITERAL.finditer(text):
        typed = ' '.join(found[1].split())
        match = _TYPED.fullmatch(typed)
        # The bare name is a name.
        if match and match['words']:
            yield Line(f'{name}:{text.count(chr(10), 0, found.start()) + 1}', typed)


@functools.lru_cache(None)
def lines() -> tuple[Line, ...]:
    """All of them, each once, by where it stands first."""
    found: dict[str, Line] = {}
    for path in PAGES:
        for line in _of_page(path):
            found.setdefault(line.text, line)
    return tuple(found.values())


def of(program: str) -> list[str]:
    """The lines that call ``program``, for a test that runs each of them."""
    return [line.text for line in lines() if line.text.split()[0] == program]


def typed(text: str, **words: object) -> list[str]:
    """The words of one command line, for a test that runs it.

    :param words: what is said instead of a word of it; the keys have ``_`` where that has ``-``
    :raises LookupError: when it stands nowhere in the documentation
    """
    if text not in {line.text for line in lines()}:
        raise LookupError(f'the documentation does not say: {text}')
    instead = {key.replace('_', '-'): str(value) for key, value in words.items()}
    return [instead.get(word, word) for word in shlex.split(text)]
