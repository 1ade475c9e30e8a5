# SPDX-License-Identifier: Apache-2.0
import os

# How many times more examples the fuzz tests of what others write try: ./run attack has the time.
FUZZ = int(os.environ.get('MIGCHECK_FUZZ', '1'))
