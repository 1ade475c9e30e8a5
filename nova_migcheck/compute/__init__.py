# SPDX-License-Identifier: Apache-2.0
"""The part in nova-compute.

``driver`` is the door that Nova loads, and holds nothing but fenced calls.
``lifecycle`` starts and stops what runs beside Nova.
``destination`` and ``source`` decide about one migration, ``refusal`` tells Nova.
``reporter`` keeps this host's report.
"""
