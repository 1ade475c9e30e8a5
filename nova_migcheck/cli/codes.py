# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck codes``: list the codes of findings."""

from __future__ import annotations

import argparse
from typing import Any, Sequence

from nova_migcheck import codes
from nova_migcheck.checks import loading
from nova_migcheck.cli.listing import Listing


class Codes(Listing):
    """List the codes of findings and what each means, those of other packages' checks included."""

    EXAMPLES = (
        ('codes', 'all of them'),
        ('codes address-wrong-interface', 'one of them, as it stands at the end of a log line'),
    )
    CODES = '0 they are listed, 255 there is no such code.'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('code', metavar='CODE', nargs='*', help='list only these')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the columns and the rows.

        :raises ValueError: for a code that no installed check has
        """
        found = {code: ('', text) for code, text in codes.COMMON.items()}
        for check in loading.installed():
            found.update({code: (check.NAME, text) for code, text in check.CODES.items()})
        wrong = [code for code in parsed_args.code if code not in found]
        if wrong:
            raise ValueError(f'{", ".join(wrong)}: no installed check has such a code')
        return ('code', 'check', 'meaning', 'page'), [
            (code, *found[code], codes.page(code)) for code in parsed_args.code or sorted(found)]
