# SPDX-License-Identifier: Apache-2.0
"""What holds for all unit tests."""

import hypothesis

# A busy machine is slow in drawing values and in everything else; no property here is one of time.
hypothesis.settings.register_profile(
    'busy', deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile('busy')
