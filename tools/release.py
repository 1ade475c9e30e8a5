#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the wheel of what is committed, and the SBOM of what it installs.

``./run build`` runs this with all that it needs. The only argument is a directory.

The wheel of one commit is always the same to the bit. Its files have the time of the commit and the
same permissions, whatever those of the checkout. The SBOM is SPDX 2.3 in JSON. It lists the files
of the package, and the distributions that pip installs with it into an empty environment.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    File,
    Package,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.spdx_element_utils import calculate_package_verification_code
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_tools.spdx.writer.json.json_writer import write_document_to_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = 'nova-migcheck'


def run(*words: str, **how: Any) -> str:
    """Return what a command prints."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **how).stdout


def build_wheel(directory: pathlib.Path) -> pathlib.Path:
    """Build the wheel of HEAD there, with the builders of this environment."""
    git = ('git', '-c', f'safe.directory={ROOT}/.git', '-c', f'safe.directory={ROOT}')
    epoch = run(*git, '-C', str(ROOT), 'log', '-1', '--format=%ct').strip()
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as place:
        run(*git, 'clone', '-q', '--no-hardlinks', str(ROOT), place)
        run(
            sys.executable,
            '-m',
            'pip',
            'wheel',
            '-q',
            '--no-deps',
            '--no-build-isolation',
            '-w',
            str(directory),
            place,
            env={**os.environ, 'SOURCE_DATE_EPOCH': epoch},
        )
    version = run(*git, '-C', str(ROOT), 'log', '-1', '--format=%H').strip()
    built = max(directory.glob('nova_migcheck-*.whl'), key=lambda path: path.stat().st_mtime)
    write_sbom(built, int(epoch), version)
    return built


def write_sbom(wheel: pathlib.Path, epoch: int, commit: str) -> None:
    """Install the wheel into an empty environment, and write what is there beside the wheel."""
    with tempfile.TemporaryDirectory() as place:
        python = f'{place}/bin/python'
        run(sys.executable, '-m', 'venv', '--without-pip', place)
        pip = (sys.executable, '-m', 'pip', '-q', '--python', python)
        run(*pip, 'install', '--no-compile', str(wheel))
        installed = json.loads(run(*pip, 'inspect'))['installed']
        document = Document(
            CreationInfo(
                'SPDX-2.3',
                'SPDXRef-DOCUMENT',
                wheel.stem,
                f'https://spdx.org/spdxdocs/{wheel.stem}-{commit}',
                [Actor(ActorType.TOOL, 'nova-migcheck tools/release.py')],
                datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).replace(tzinfo=None),
            )
        )
        fill(document, sorted(installed, key=name_of), wheel)
    errors = validate_full_spdx_document(document)
    if errors:
        raise SystemExit('\n'.join(error.validation_message[:500] for error in errors))
    write_document_to_file(document, str(wheel.with_suffix('.spdx.json')), validate=False)


def name_of(distribution: dict[str, Any]) -> str:
    """Return the name of a distribution of ``pip inspect``, the way all spell it."""
    return str(canonicalize_name(distribution['metadata']['name']))


def identifier(name: str) -> str:
    """Return the identifier of a distribution or a file in the document."""
    return 'SPDXRef-' + re.sub(r'[^A-Za-z0-9.-]', '-', name)


def fill(document: Document, installed: list[dict[str, Any]], wheel: pathlib.Path) -> None:
    """Put all that is installed into the document."""
    names = {name_of(each) for each in installed}
    for each in installed:
        name, version = name_of(each), each['metadata']['version']
        purl = ExternalPackageRef(
            ExternalPackageRefCategory.PACKAGE_MANAGER, 'purl', f'pkg:pypi/{name}@{version}'
        )
        document.packages.append(
            Package(
                identifier(name),
                name,
                SpdxNoAssertion(),
                version=version,
                files_analyzed=name == OURS,
                external_references=[purl],
            )
        )
        for needed in needs(each) & names:
            document.relationships.append(
                Relationship(identifier(name), RelationshipType.DEPENDS_ON, identifier(needed))
            )
        if name == OURS:
            document.packages[-1].checksums = [
                Checksum(ChecksumAlgorithm.SHA256, hashlib.sha256(wheel.read_bytes()).hexdigest())
            ]
            document.packages[-1].file_name = wheel.name
            for file in files(pathlib.Path(each['metadata_location'])):
                document.files.append(file)
                document.relationships.append(
                    Relationship(identifier(name), RelationshipType.CONTAINS, file.spdx_id)
                )
            document.packages[-1].verification_code = calculate_package_verification_code(
                document.files
            )
    document.relationships.append(
        Relationship('SPDXRef-DOCUMENT', RelationshipType.DESCRIBES, identifier(OURS))
    )
    document.relationships.sort(
        key=lambda one: (one.spdx_element_id, str(one.related_spdx_element_id))
    )


def needs(distribution: dict[str, Any]) -> set[str]:
    """Return the names of what a distribution needs on this platform."""
    requirements = map(Requirement, distribution['metadata'].get('requires_dist', ()))
    return {
        str(canonicalize_name(each.name))
        for each in requirements
        if each.marker is None or each.marker.evaluate({'extra': ''})
    }


def files(metadata: pathlib.Path) -> Iterator[File]:
    """Yield the files of a distribution, but those that pip writes anew in each environment."""
    packages = metadata.parent
    for line in sorted((metadata / 'RECORD').read_text().splitlines()):
        name = line.rsplit(',', 2)[0].strip('"')
        if name.startswith((f'{metadata.name}/', '../../../bin/')):
            continue
        content = (packages / name).read_bytes()
        shown = name.replace('../../../', '')
        yield File(
            f'./{shown}',
            identifier(f'File-{shown}'),
            [
                Checksum(ChecksumAlgorithm.SHA1, hashlib.sha1(content).hexdigest()),
                Checksum(ChecksumAlgorithm.SHA256, hashlib.sha256(content).hexdigest()),
            ],
        )


if __name__ == '__main__':
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(build_wheel(target))
