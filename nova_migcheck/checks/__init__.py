# SPDX-License-Identifier: Apache-2.0
"""The built-in checks, one file each. None of them imports nova."""
