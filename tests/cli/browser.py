# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, headless, that is allowed nothing but to show a file."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from typing import Any, Iterator

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
          '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--window-size=1400,1000', '--hide-scrollbars',
          # Whatever it should want to load goes nowhere.
          '--proxy-server=127.0.0.1:1', '--host-resolver-rules=MAP * ~NOTFOUND')


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a new profile.

    :raises FileNotFoundError: where chromium or its driver is not installed (bindep.txt)
    """
    paths = {name: shutil.which(name) for name in ('chromium', 'chromedriver')}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise FileNotFoundError(f'{" and ".join(missing)} must be installed: see bindep.txt')
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = paths['chromium']
        for flag in (*_FLAGS, f'--user-data-dir={profile}'):
            options.add_argument(flag)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
        driver = webdriver.Chrome(options=options, service=Service(paths['chromedriver']))
        try:
            yield driver
        finally:
            driver.quit()


def requests(driver: Any) -> list[str]:
    """The addresses of all that was asked for since the last call."""
    messages = (json.loads(entry['message'])['message'] for entry in driver.get_log('performance'))
    return [message['params']['request']['url'] for message in messages if message['method'] == 'Network.requestWillBeSent']


@contextlib.contextmanager
def opened(driver: Any, directory: Any, name: str) -> Iterator[Any]:
    """A page of a directory. It must log no error, and ask for nothing but itself.

    :param name: without ``.html``
    """
    driver.get('about:blank')  # what a browser asks for when it starts comes before
    driver.get_log('browser')
    requests(driver)
    driver.get(f'file://{directory}/{name}.html')
    yield driver
    logged = driver.get_log('browser')
    assert [entry for entry in logged if entry['level'] in ('SEVERE', 'WARNING')] == []
    assert {url for url in requests(driver) if not url.startswith(f'file://{directory}')} == set()


def choose(driver: Any, control: str, value: str) -> None:
    """Set a control as a person would, with the event that it brings."""
    driver.execute_script(
        'const c = document.getElementById(arguments[0]); c.value = arguments[1]; '
        'c.dispatchEvent(new Event("input", {bubbles: true}))',
        control,
        value,
    )
