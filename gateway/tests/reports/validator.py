"""Installs the FOCUS validator so that it also runs on Python 3.11: version 2 says it needs 3.12, and does for the sake of one
line, a string with a backslash inside of an f-string."""

import importlib.util
import pathlib
import py_compile
import sys

LINE = """", ".join(f"'{k.replace('\\"', '\\"\\"')}'" for k in ignore_keys)"""
SAME = """", ".join("'" + k.replace('"', '""') + "'" for k in ignore_keys)"""

if sys.version_info < (3, 12):
    package = pathlib.Path(importlib.util.find_spec("focus_validator").origin).parent
    file = package / "config_objects/focus_to_duckdb_converter.py"
    text = file.read_text()
    if LINE in text:
        file.write_text(text.replace(LINE, SAME))
    py_compile.compile(str(file), doraise=True)
