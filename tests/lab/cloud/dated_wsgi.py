# SPDX-License-Identifier: Apache-2.0
"""Another module's application, whose answers say what time it is, as they do behind Apache or nginx; uWSGI by itself says none."""

import email.utils
import importlib
import os

_application = importlib.import_module(os.environ['LAB_APPLICATION']).application


def application(environ, start_response):
    def dated(status, headers, *exc_info):
        return start_response(status, [*headers, ('Date', email.utils.formatdate(usegmt=True))], *exc_info)
    return _application(environ, dated)
