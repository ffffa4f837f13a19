"""run.py MODULE SECONDS: the tests of a module; where they do not end in so many seconds, the place of every thread is told."""
import faulthandler
import sys
import unittest

module, seconds = sys.argv[1:]
faulthandler.dump_traceback_later(float(seconds), exit=True)
unittest.main(module, argv=[module], verbosity=2)
