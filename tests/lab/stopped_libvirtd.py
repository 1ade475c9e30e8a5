# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""Nova's own libvirt driver with the plugin, on a real libvirtd that is stopped by SIGSTOP: run by test_stopped_libvirtd.py on each of
Nova's concurrency backends.

``python -m tests.lab.stopped_libvirtd NOVA_CONF PID ROUNDS``: prints as JSON what was said before, meanwhile and afterwards.
"""

import os
import sys

# Nova patches, or forbids to, before anything else of it is imported; OS_NOVA_DISABLE_EVENTLET_PATCHING says which.
from nova import monkey_patch

monkey_patch.patch()

import json
import signal
import time
import uuid

import nova.conf
from nova import config, objects
from nova import context as nova_context
from nova.virt import driver as virt_driver
from nova.virt import virtapi

from nova_migcheck.compute import destination, reporter
from nova_migcheck.compute.fence import fenced
from nova_migcheck.report import published
from tests.functional.attack import Heart, left, left_after

CONF = nova.conf.CONF
# Seconds that libvirtd may take for one question, instead of the 15 that it may need to probe QEMU.
destination.LIBVIRT = 1.0


def rounds(driver, number):
    """Rounds of checks, each with a decision about a guest that comes; what was said, how long the longest of each took, and our heart."""
    mine = driver._migcheck
    source = {'stats': published_texts(driver)}
    heart = Heart()
    heart.start()
    longest = {'round': 0.0, 'decision': 0.0, 'publishing': 0.0}
    accepted = 0
    for _ in range(number):
        times = [time.monotonic()]
        mine.reporter.fresh(0)
        times.append(time.monotonic())
        with fenced('deciding', objects.Instance(uuid=uuid.uuid4(), host='compute2')):
            instance = objects.Instance(
                id=1, uuid=str(uuid.uuid4()), host='compute2', config_drive=''
            )
            compared = mine.destination.decide(nova_context.get_admin_context(), instance, source)
            accepted += compared is not None and compared.comparison.compatible
        times.append(time.monotonic())
        published_texts(driver)
        times.append(time.monotonic())
        for name, begun, ended in zip(longest, times, times[1:]):
            longest[name] = max(longest[name], ended - begun)
    report = published.read(published_texts(driver))
    return {'longest': longest, 'accepted': accepted, 'heart': heart.stop(), 'cpu': report.cpu is not None,
            'findings': [str(f) for f in report.findings]}


def well(driver, number):
    """The same, when libvirtd answers. On a busy machine it may need more than a second for once, and is asked again then."""
    for _ in range(8):
        said = rounds(driver, number)
        if not any('libvirtd' in text for text in said['findings']):
            break
    return said


def published_texts(driver):
    """The plugin's part of the resource audit: with the daemon stopped, Nova's own part of it waits for ever, as it does without us."""
    return driver._migcheck.reporter.texts()


def main(nova_conf, pid, number):
    config.parse_args(['nova-compute'], default_config_files=[nova_conf], configure_db=False, init_rpc=False)
    # As nova.service does for nova-compute.
    nova.conf.devices.register_dynamic_opts(CONF)
    nova.conf.neutron.register_dynamic_opts(CONF)
    objects.register_all()
    driver = virt_driver.load_compute_driver(virtapi.VirtAPI())
    reporter.FIRST = 0.0
    driver.init_host('compute1')
    # From here on a round is run when it is asked for.
    while not driver._migcheck.reporter.texts():
        time.sleep(0.05)
    said = {'audit': sorted(driver.get_available_resource('compute1')['stats'])}
    said['before'] = well(driver, number)
    held = left()
    os.kill(pid, signal.SIGSTOP)
    try:
        said['stopped'] = rounds(driver, number)
    finally:
        os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + 60
    while driver._migcheck.destination._bounded.hangs and time.monotonic() < end:
        time.sleep(0.05)
    said['after'] = well(driver, number)
    said['held'], said['holds'] = held, left_after(held)
    said['patched'] = monkey_patch.is_patched()
    driver.cleanup_host('compute1')
    print(json.dumps(said), flush=True)
    os._exit(0)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
