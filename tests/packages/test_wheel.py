# SPDX-License-Identifier: Apache-2.0
"""The wheel and its SBOM, and what README.rst says of installing it, on a Debian that has nothing.
"""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Iterator

import pytest

from tests import documentation, roots
from tests.packages.scratch import Scratch, scratch


@pytest.fixture(scope='module', params=sorted(roots.CODENAMES))
def there(request: pytest.FixtureRequest) -> Iterator[Scratch]:
    """A bare root with a checkout, and with the environment in which Nova would be."""
    root = roots.Root(request.param, 'bare')
    root.make()
    root.take_checkout()
    with scratch(root) as one:
        one.shell(
            'apt-get update -qq; apt-get install -y -qq --no-install-recommends python3-venv; python3 -m venv /opt/nova; '
            f'cp -r {roots.PLACE} /srv/elsewhere'
        )
        yield one


def line(text: str) -> str:
    """A line of the documentation, for a shell."""
    return ' '.join(
        word if '*' in word else shlex.quote(word) for word in documentation.typed(text)
    )


def works(there: Scratch) -> None:
    assert 'machine-type-missing' in there.run('/opt/nova/bin/nova-migcheck', 'codes')
    assert there.shell('ls /opt/nova/lib/python3*/site-packages/nova/virt/migcheck/__init__.py')
    there.run('/opt/nova/bin/pip', 'uninstall', '-q', '-y', 'nova-migcheck')


def test_from_a_checkout(there: Scratch) -> None:
    there.shell(f'cd {roots.PLACE}/..; {line("/opt/nova/bin/pip install ./nova-migcheck")}')
    works(there)


def test_two_wheels_are_equal_and_the_sbom_lists_what_is_installed(there: Scratch) -> None:
    there.shell(f'cd {roots.PLACE}; {line("./run build")}')
    # The same commit, in a checkout of another place, time and taste.
    there.shell(
        'umask 077; cd /srv/elsewhere; chmod -R go= .; find . -exec touch -d 2001-01-01 {} +; ./run build /srv/other',
        TZ='Pacific/Kiritimati',
        LC_ALL='C',
        PYTHONHASHSEED='7',
    )
    first, second = (
        {path.name: path.read_bytes() for path in (there.path / directory.lstrip('/')).iterdir()}
        for directory in (f'{roots.PLACE}/dist', '/srv/other')
    )
    assert first == second and len(first) == 2

    there.shell(f'cd {roots.PLACE}; {line("/opt/nova/bin/pip install dist/nova_migcheck-*.whl")}')
    sbom = json.loads(
        next(content for name, content in first.items() if name.endswith('.spdx.json'))
    )
    listed = json.loads(
        there.run('/opt/nova/bin/pip', 'list', '--format', 'json', '--disable-pip-version-check')
    )
    installed = {
        (one['name'].lower().replace('_', '-').replace('.', '-'), one['version'])
        for one in listed
        if one['name'] not in ('pip', 'setuptools')
    }
    assert {
        (one['name'], one['versionInfo']) for one in sbom['packages'] if one['name'] != 'setuptools'
    } == installed
    record = there.shell(
        'cat /opt/nova/lib/python3*/site-packages/nova_migcheck-*.dist-info/RECORD'
    ).splitlines()
    ours = {
        name.replace('../../../', './', 1) if name.startswith('../') else f'./{name}'
        for name in (entry.rsplit(',', 2)[0] for entry in record)
        if '.dist-info/' not in name
        and not name.endswith('.pyc')
        and not name.startswith('../../../bin/')
    }
    assert {one['fileName'] for one in sbom['files']} == ours
    assert all(one['checksums'] for one in sbom['files'])
    works(there)


def test_what_the_package_needs_is_in_the_sbom(there: Scratch) -> None:
    """Each requirement of ours, and theirs."""
    sbom = json.loads(
        next((there.path / roots.PLACE.lstrip('/') / 'dist').glob('*.spdx.json')).read_text()
    )
    of = {one['spdxElementId'].removeprefix('SPDXRef-'): set() for one in sbom['relationships']}
    for one in sbom['relationships']:
        if one['relationshipType'] == 'DEPENDS_ON':
            of[one['spdxElementId'].removeprefix('SPDXRef-')].add(
                one['relatedSpdxElement'].removeprefix('SPDXRef-')
            )
    requirements = pathlib.Path(documentation.ROOT / 'requirements.txt').read_text()
    wanted = {
        entry.split('>')[0].lower().replace('.', '-').replace('_', '-')
        for entry in requirements.splitlines()
    }
    assert of['nova-migcheck'] == wanted
    assert 'urllib3' in of['requests']
