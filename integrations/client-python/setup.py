"""Generates the contract's code while the package is built."""

import os
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import generate  # noqa: E402  it stands beside this file


class BuildWithContract(build_py):
    def run(self):
        super().run()
        generate.generate(self.build_lib)


setup(cmdclass={'build_py': BuildWithContract})
