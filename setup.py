"""Installs lc_asgd_tf; the metadata is in pyproject.toml."""

import setuptools

setuptools.setup()
