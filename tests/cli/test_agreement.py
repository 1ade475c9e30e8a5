# SPDX-License-Identifier: Apache-2.0

import pytest

from tests.cli import agreement
from tests.cli.commands import in_nova

pytestmark = pytest.mark.nova


def test_explain_the_matrix_and_the_filter_agree_on_every_pair_of_any_fleet(tmp_path):
    in_nova(agreement.check, str(tmp_path), 8)
