# SPDX-License-Identifier: Apache-2.0
"""What Nova's tests of notifications compare with. Its wheel does not have it, its sources do."""

from __future__ import annotations

import pathlib
import subprocess
import tarfile
import tempfile

from tests.peer.running import Nova

_SAMPLES = 'doc/notification_samples'


def install(nova: Nova) -> None:
    """Put the samples of a release where its tests look for them, if they are not there."""
    there = nova.site_packages / _SAMPLES
    if there.exists():
        return
    metadata, = nova.site_packages.glob('nova-[0-9]*.dist-info')
    version = metadata.name[len('nova-'):-len('.dist-info')]
    there.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=there.parent) as directory:
        subprocess.run([
            nova.python, '-m', 'pip', '--quiet', '--disable-pip-version-check', 'download',
            '--no-deps', '--no-binary', 'nova', '--no-build-isolation', '-d', directory,
            f'nova=={version}'], check=True)
        sources, = pathlib.Path(directory).glob('*.tar.gz')
        unpacked = pathlib.Path(directory, 'unpacked')
        with tarfile.open(sources) as archive:
            for member in archive:
                _, found, name = member.name.partition(f'/{_SAMPLES}/')
                if found and member.isfile():
                    path = unpacked / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.extractfile(member).read())
        unpacked.rename(there)
