# SPDX-License-Identifier: Apache-2.0
"""A check whose module cannot be imported."""

raise ImportError('libmissing.so.1: cannot open shared object file')
