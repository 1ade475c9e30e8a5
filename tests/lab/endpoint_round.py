# SPDX-License-Identifier: Apache-2.0
"""One round of EndpointCheck in a new process: settings in, results out, as JSON lines, and what it cost with all imports."""

import json
import resource
import sys
import time

from nova_migcheck.checks.base import Keep, Settings
from nova_migcheck.checks.endpoint import EndpointCheck


def main() -> None:
    started = time.monotonic()
    for result in EndpointCheck().run(Settings(**json.load(sys.stdin))):
        found = {'keep': result.value} if isinstance(result, Keep) else result.to_dict()
        print(json.dumps(found), flush=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({'seconds': time.monotonic() - started, 'cpu': used.ru_utime + used.ru_stime}))


if __name__ == '__main__':
    main()
