"""The programs' flags: one module per group.

Each module has `define`, which registers the flags, and `read`, which returns
them as a dataclass once they are parsed.
"""
