# SPDX-License-Identifier: Apache-2.0
"""Read libvirt's CPU models from its own files, for use without a libvirtd."""

from __future__ import annotations

import os
import pathlib
import xml.etree.ElementTree as ElementTree
from typing import Iterator, Optional, Union

from nova_migcheck.cpu.definition import UnknownModel

#: Where distributions put them; ``NOVA_MIGCHECK_CPU_MAP`` names another directory.
DIRECTORY = '/usr/share/libvirt/cpu_map'

_FAMILIES = {'x86_64': 'x86', 'i686': 'x86', 'aarch64': 'arm', 'armv7l': 'arm', 'ppc64': 'ppc64',
             'ppc64le': 'ppc64'}


class CpuMap:
    """The CPU models of the libvirt that these files belong to.

    :param directory: with ``index.xml``; by default ``$NOVA_MIGCHECK_CPU_MAP`` or
        :data:`DIRECTORY`
    """

    def __init__(self, directory: Union[str, pathlib.Path, None] = None) -> None:
        self.directory = pathlib.Path(
            directory or os.environ.get('NOVA_MIGCHECK_CPU_MAP') or DIRECTORY)
        self._families: dict[str, tuple[dict[str, ElementTree.Element], frozenset[str]]] = {}

    def models(self, arch: str) -> list[str]:
        """Return the names of the models.

        :raises OSError: if there are no such files
        """
        return list(self._read(arch)[0])

    def names(self, arch: str) -> frozenset[str]:
        """Return every feature that this libvirt has a name for, none if there are no files."""
        try:
            return self._read(arch)[1]
        except OSError:
            return frozenset()

    def features(self) -> frozenset[str]:
        """Read the names of x86 features, without their aliases.

        Reads one file in 2 ms. All of them take 30 ms.

        :raises OSError: if there is no such file
        """
        root = self._root('x86_features.xml')
        return frozenset(element.get('name', '') for element in root if element.tag == 'feature')

    def added(self, model: str) -> Optional[frozenset[str]]:
        """Read the features that were added to an x86 model later.

        libvirt leaves them out of the CPU that it sends with a migration, unless the guest was
        requested with them, because an older libvirt may not know them (src/qemu/qemu_domain.c,
        qemuDomainMakeCPUMigratable, since 10.2.0).

        :returns: None if there is no such file
        """
        try:
            found = [_marked(element, 'added') for element in self._root(f'x86_{model}.xml')
                     if element.get('name') == model]
        except OSError:
            return None
        return found[0] if found else None

    def decides(self, model: str, arch: str) -> bool:
        """Return whether libvirt compares definitions of this model by these files, not by QEMU.

        Up to 10.9 it does so for all models, and since then for those that are marked.
        """
        try:
            models = self._read(arch)[0]
        except OSError:
            return False
        marked = any(element.find('check') is not None for element in models.values())
        if model not in models:
            return False
        return not marked or models[model].find("check[@partial='compat']") is not None

    def expand(self, model: str, arch: str) -> frozenset[str]:
        """Return the features of a model.

        :raises UnknownModel: if the model is not in the files, or there are none
        """
        try:
            models = self._read(arch)[0]
        except OSError as error:
            raise UnknownModel(f'CPU model {model} cannot be looked up: no CPU models of libvirt '
                               f'at {self.directory} ({error.strerror or error})') from None
        if model not in models:
            raise UnknownModel(f'the libvirt whose models are in {self.directory} does not know '
                               f'the {arch} CPU model {model}')
        features: frozenset[str] = frozenset()
        parent = models[model].find('model')
        if parent is not None and parent.get('name') in models and parent.get('name') != model:
            name = str(parent.get('name'))
            features = self.expand(name, arch) - _marked(models[name], 'removed')
        # Marked features belong to QEMU's model of that name, now or formerly, not to libvirt's.
        return features | (_marked(models[model]) - _marked(models[model], 'removed', 'added'))

    def vendor(self, model: str, arch: str) -> Optional[str]:
        """Return the vendor of a model, or None if it has none or is unknown."""
        try:
            element = self._read(arch)[0].get(model)
        except OSError:
            return None
        vendor = element.find('vendor') if element is not None else None
        return vendor.get('name') if vendor is not None else None

    def _read(self, arch: str) -> tuple[dict[str, ElementTree.Element], frozenset[str]]:
        family = _FAMILIES.get(arch, arch)
        if family not in self._families:
            models: dict[str, ElementTree.Element] = {}
            names = set()
            for element in self._elements(family):
                if element.tag == 'model':
                    models[element.get('name', '')] = element
                elif element.tag == 'feature':
                    names.add(element.get('name', ''))
                    names.update(alias.get('name', '') for alias in element.findall('alias'))
            self._families[family] = models, frozenset(names)
        return self._families[family]

    def _elements(self, family: str) -> Iterator[ElementTree.Element]:
        for arch in self._root('index.xml').iterfind(f"arch[@name='{family}']"):
            for element in arch.iter():
                if element.tag == 'include':
                    yield from self._root(element.get('filename', ''))
                elif element.tag in ('model', 'feature'):
                    yield element

    def _root(self, filename: str) -> ElementTree.Element:
        try:
            return ElementTree.parse(self.directory / pathlib.PurePath(filename).name).getroot()
        except ElementTree.ParseError as error:
            raise OSError(f'not readable as XML: {error}') from None


def _marked(model: ElementTree.Element, *marks: str) -> frozenset[str]:
    """Return the features of a model that have one of ``marks``, or all without marks."""
    return frozenset(feature.get('name', '') for feature in model.findall('feature')
                     if not marks or any(feature.get(mark) == 'yes' for mark in marks))
