# SPDX-License-Identifier: Apache-2.0
"""Tests that end in each way, for tests of the worker; Nova's are too well-behaved."""

import os
import threading
import unittest


class Cases(unittest.TestCase):
    """They run in the order of their names."""

    def test_1_passes(self):
        pass

    def test_2_fails(self):
        self.fail('it is meant to')

    def test_3_hangs(self):
        threading.Event().wait()

    def test_4_is_skipped(self):
        self.skipTest('it is meant to')

    def test_5_ends_the_process(self):
        os._exit(3)

    def test_6_passes(self):
        pass


class NotSetUp(unittest.TestCase):
    """None of them runs."""

    @classmethod
    def setUpClass(cls):
        raise RuntimeError('it is meant to')

    def test(self):
        pass
