"""The certificate that a bundle carries, as far as it is about the models in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caretrace.explain.certificate import FILE, Certificate, empty, read_certificate
from caretrace.hospital.config import RULES


def bundled_certificate(bundle: Path, application: str, config: Mapping[str, Any]) -> Certificate:
    """The certificate in a bundle, if it is about this configuration; else one that certifies nothing.

    Args:
        bundle: The bundle's folder.
        application: Name of the application.
        config: Settings of the bundle's models, from `run.json`.

    Raises:
        BundleError: There is one, and it is damaged.
    """
    if not (bundle / FILE).is_file():
        return empty(application, RULES)
    found = read_certificate(bundle / FILE)
    same = found.application == application and _shape(found.config) == _shape(config)
    return found if same else empty(application, RULES)


def _shape(config: Mapping[str, Any]) -> Any:
    """A configuration without what only says how long and how often it was trained; as it looks in JSON."""
    return json.loads(json.dumps({key: value for key, value in config.items() if key != "training"}))
