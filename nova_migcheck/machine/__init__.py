# SPDX-License-Identifier: Apache-2.0
"""The machine that QEMU gives to a guest, other than its CPU. It knows no check and no Nova."""
