# SPDX-License-Identifier: Apache-2.0
"""Render a page of HTML that needs no network and no other file.

A page contains the hosts' own texts, and a host may be hostile. Jinja2 escapes all of them. A
content security policy allows only the page's own script and style.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import time
from typing import Any

import jinja2
import markupsafe


def render(name: str, now: float, **values: Any) -> str:
    """Return the page of a template, with its script and its style.

    :param name: of the files in ``templates``: NAME.html, NAME.css, NAME.js
    :param now: seconds since the epoch, when what it shows was so
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('nova_migcheck.cli'), autoescape=True, trim_blocks=False,
        undefined=jinja2.StrictUndefined)
    loader = environment.loader
    assert loader is not None
    style = loader.get_source(environment, f'{name}.css')[0]
    script = loader.get_source(environment, f'{name}.js')[0]
    when = time.gmtime(now)
    return environment.get_template(f'{name}.html').render(
        style=markupsafe.Markup(style), style_hash=_hash(style),
        script=markupsafe.Markup(script), script_hash=_hash(script),
        version=importlib.metadata.version('nova-migcheck'),
        when=time.strftime('%Y-%m-%d %H:%M UTC', when),
        when_iso=time.strftime('%Y-%m-%dT%H:%M:%SZ', when), **values)


def _hash(text: str) -> str:
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
