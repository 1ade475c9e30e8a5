# SPDX-License-Identifier: Apache-2.0
"""The codes of findings: each is declared once, and each finding that is not ok has one."""

import ast
import importlib.metadata
import pathlib
import re

import nova_migcheck
from nova_migcheck import codes
from nova_migcheck.checks import loading
from nova_migcheck.endpoints.values import Fault
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import tlsfiles

PACKAGE = pathlib.Path(nova_migcheck.__file__).parent
OURS = [
    entry.name
    for entry in importlib.metadata.entry_points(group=loading.NAMESPACE)
    if entry.value.startswith('nova_migcheck.')
]
CHECKS = [one.check for one in loading.load(OURS).values()]
DECLARED = {
    **codes.COMMON,
    **{code: text for check in CHECKS for code, text in check.CODES.items()},
}


def test_each_is_declared_once():
    declared = [*codes.COMMON, *(code for check in CHECKS for code in check.CODES)]
    assert sorted(declared) == sorted(DECLARED)
    for code, text in DECLARED.items():
        assert re.fullmatch(r'[a-z]+(-[a-z]+)+', code), code
        assert text.endswith('.') and '\n' not in text and len(text) < 90


def test_a_code_begins_with_its_check():
    for check in CHECKS:
        names = (check.NAME, 'clock') if check.NAME == 'endpoint' else (check.NAME,)
        assert all(code.startswith(tuple(f'{name}-' for name in names)) for code in check.CODES)


# It stands in the text of a refusal that is no finding.
IN_A_SENTENCE = ('cpu-refused-by-nova',)


def literals():
    """Return all strings of the package that look like a code, and where they are."""
    found = {}
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.setdefault(node.value, []).append(path)
    return found


def test_each_declared_one_is_used():
    used = literals()
    built = {fault.code for fault in Fault} | {
        f'{check}-{kind}' for check in ('tls', 'transport') for kind in tlsfiles.KINDS
    }
    built.remove('transport-name')  # a client's certificate is for no address
    for code in DECLARED.keys() - built:
        assert len(used[code]) >= 2 or code in IN_A_SENTENCE, f'{code} is declared and not used'
    assert built <= DECLARED.keys()


def calls():
    """Yield each call that makes a finding: its name, the call, where it is."""
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            of_check = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in (
                'self',
                'check',
                'MachineCheck()',
            )
            if (
                name in ('_finding', 'Finding')
                or ast.unparse(node.func) == '_trouble'
                or (of_check and name in ('found', 'failure', 'warning', 'unknown'))
            ):
                yield name, node, f'{path.relative_to(PACKAGE)}:{node.lineno}'


def test_each_finding_has_one():
    without = []
    for _name, call, where in calls():
        given = {word.arg for word in call.keywords}
        texts = [
            node.value
            for node in ast.walk(call)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        ok = any(
            isinstance(node, ast.Attribute) and ast.unparse(node) == 'Outcome.OK'
            for node in call.args
        )
        if not (ok or 'code' in given or DECLARED.keys() & set(texts)):
            without.append((where, ast.unparse(call)[:80]))
    # The first makes one that has no texts, and the others pass on what they are given.
    allowed = {'report/published.py', 'checks/base.py', 'endpoints/diagnosis.py'}
    assert {where.partition(':')[0] for where, _call in without} <= allowed, without


def test_it_is_in_the_json_and_in_the_line_of_the_log():
    finding = Finding('address', Outcome.FAILURE, '10.0.0.5', 'is on eth1', code='address-loopback')
    assert finding.to_dict()['code'] == 'address-loopback'
    assert Finding.from_dict(finding.to_dict()) == finding
    assert str(finding).endswith(' [address-loopback]')
    assert 'code' not in Finding('address', Outcome.OK, '10.0.0.5').to_dict()


def test_a_person_is_told_of_its_page():
    assert {codes.page(code) for code in DECLARED} == {f'runbooks/{code}' for code in DECLARED}
    assert codes.advice('mend it', 'report-stale') == 'mend it (runbooks/report-stale)'
    assert codes.advice('', 'cpu-undetermined') == '(runbooks/cpu-undetermined)'
    assert codes.advice('mend it', 'hugepages-none') == 'mend it' and codes.advice('', '') == ''


def test_the_documentation_lists_them():
    """``python3 -m tests.unit.test_codes`` writes the page."""
    assert PAGE.read_text() == page()


PAGE = pathlib.Path(__file__).parents[2] / 'doc/source/codes.rst'
BEGINNING = """\
=====
Codes
=====

Each finding that is not ``ok`` has a code. The code says which kind of finding it is, and stays the
same when the text changes. It stands at the end of the line in the log, in the event of a refusal,
in the JSON of each command and in the report. On a terminal the remedy names the page of the code,
which says what it does to a migration, how to see it by hand, how to mend it and how to accept it.

"""


def page():
    """Return the page of the documentation."""
    rows = [(f':doc:`{code} <runbooks/{code}>`', text) for code, text in sorted(DECLARED.items())]
    width = max(len(code) for code, _text in rows)
    rule = f'{"=" * width}  {"=" * max(len(text) for _code, text in rows)}'
    lines = [
        rule,
        f'{"code".ljust(width)}  meaning',
        rule,
        *(f'{code.ljust(width)}  {text}' for code, text in rows),
        rule,
    ]
    return BEGINNING + '\n'.join(lines) + '\n'


if __name__ == '__main__':
    PAGE.write_text(page())
