# SPDX-License-Identifier: Apache-2.0
"""Plan where the servers of a host go before it is emptied. It moves nothing. Pure."""
