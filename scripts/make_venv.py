"""Make a virtual environment, or say in one sentence why this Python cannot.

    python3 scripts/make_venv.py .venv

It must run, and complain politely, on any Python: that is why nothing modern stands in it.
"""
# ruff: noqa: UP031

import sys

OLDEST = (3, 11)


def problem(version, has_ensurepip):
    """Why no environment can be made, and what to do; None if it can.

    Args:
        version: (major, minor) of the running Python.
        has_ensurepip: Whether it can put pip into an environment.
    """
    if tuple(version) < OLDEST:
        return (
            "caretrace needs Python %d.%d or later, this is %d.%d: install a newer one, "
            "and name it, for example `make demo PYTHON=python3.12`" % (OLDEST + tuple(version))
        )
    if not has_ensurepip:
        return (
            "this Python cannot make virtual environments: install its venv package (Debian and Ubuntu: "
            "`sudo apt install python%d.%d-venv`), or name another Python, `make demo PYTHON=python3.12`"
            % tuple(version)
        )
    return None


def has_ensurepip():
    """Debian's python3 without python3-venv has the module venv, but not this one."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def main(folder):
    """Make the environment in `folder`; one that stands there already is kept."""
    reason = problem(sys.version_info[:2], has_ensurepip())
    if reason is not None:
        sys.stderr.write("caretrace: %s\n" % reason)
        return 1
    import venv

    venv.create(folder, with_pip=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
