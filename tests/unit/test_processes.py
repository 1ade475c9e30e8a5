# SPDX-License-Identifier: Apache-2.0
import os
import subprocess

import psutil

from nova_migcheck import processes


def test_a_process_is_told_from_a_later_one_by_its_start():
    """By psutil, which knows the same in seconds since the system booted."""
    with subprocess.Popen(['/bin/cat'], stdin=subprocess.PIPE) as process:
        started = int(processes.start_time(process.pid)) / os.sysconf('SC_CLK_TCK')
        since_boot = psutil.Process(process.pid).create_time() - psutil.boot_time()
        assert abs(started - since_boot) < 5
        assert processes.start_time(process.pid) == processes.start_time(process.pid)
        process.stdin.close()
    assert processes.start_time(process.pid) is None


def test_the_name_of_a_process_may_look_like_fields(tmp_path):
    odd = tmp_path / 'a) S 1'
    odd.symlink_to('/bin/cat')
    with subprocess.Popen([odd], stdin=subprocess.PIPE) as process:
        assert processes.start_time(process.pid).isdigit()
        process.stdin.close()


def test_what_is_no_process_has_no_start():
    assert processes.start_time(2**30) is None
