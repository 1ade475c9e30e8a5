# SPDX-License-Identifier: Apache-2.0
"""Two releases of Debian in one fleet: real migrations from each to the other, and what the package
says of each beforehand."""
