# SPDX-License-Identifier: Apache-2.0
"""The parts of the plugin whose work is counted."""

#: In the order in which they are shown.
PARTS = ('hook started', 'as destination', 'as source', 'filter judged', 'events written', 'errors')
