"""Installs lc_asgd_tf; the metadata is in pyproject.toml."""

import setuptools

# The default, build/, is the file BUILD where names have no case.
setuptools.setup(options={"build": {"build_base": "dist/build"}})
