# SPDX-License-Identifier: Apache-2.0
"""The volumes of a server and what is left over of it on a target. No check, and no nova."""
