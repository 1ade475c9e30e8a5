# SPDX-License-Identifier: Apache-2.0
"""Run code where file systems can be mounted: in mount, process and network namespaces that take all with them when they end."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

_START = """
set -eu
work={work}
cd $work
# A FUSE file system, whose server can be stopped: share SERVER:/EXPORT AT [OPTION]; its process is $server. The kernel shows it as
# mounted from $work/SERVER:/EXPORT, since bindfs sets that name itself.
share() {{
    mkdir -p "$1"
    bindfs -f -o "nonempty,subtype=glusterfs${{3:+,$3}}" "$1" "$2" & server=$!
    until grep -q " $work/$2 .* fuse.glusterfs " /proc/self/mountinfo; do kill -0 $server; sleep 0.02; done
}}
{shell}
export server
exec {python} {script}
"""


def missing() -> str:
    """What this machine lacks, '' when it has all."""
    if os.geteuid() != 0:
        return 'not root'
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        return 'no /dev/fuse'
    return next((f'no {program}' for program in ('unshare', 'bindfs', 'mount') if not shutil.which(program)), '')


def run(work: pathlib.Path, shell: str, code: str, seconds: float = 30) -> str:
    """What ``code``, Python, prints after ``shell`` prepared the mounts below ``work``.

    :raises AssertionError: when it fails or does not end in time
    """
    script = work / 'script.py'
    script.write_text(code)
    start = work / 'start.sh'
    start.write_text(_START.format(work=work, shell=shell, python=sys.executable, script=script))
    command = ['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private',
               'bash', str(start)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
                          env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'})
    assert done.returncode == 0, done.stderr
    return done.stdout
