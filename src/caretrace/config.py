"""Settings: YAML and `--set key=value` to frozen dataclasses, strictly.

A key that does not exist or a value of the wrong kind is an error that names the key, the value and
the nearest valid name. Dataclasses live next to what they set; this file only fills them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from caretrace.errors import ConfigError, unknown_name

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except (
        yaml.YAMLError,
        ValueError,
        OSError,
    ) as error:  # ValueError: not UTF-8, or a date such as 2020-13-45
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got a {type(value).__name__}")
    return value


def load(cls: type[T], file: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Fill a config dataclass from an optional YAML file and `key=value` overrides, last one wins.

    Args:
        cls: A frozen dataclass whose fields all have defaults.
        file: YAML file; its nesting follows the dataclass.
        overrides: Strings such as `training.max_epochs=5`; values are read as YAML.

    Raises:
        ConfigError: Unknown key, or a value of the wrong kind.
    """
    values = read_yaml(file) if file is not None else {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {item!r}: write it as key=value, for example training.max_epochs=5")
        _put(values, key.split("."), _read_value(text, item), item)
    return from_dict(cls, values)


def from_dict(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build the dataclass `cls` from a plain mapping, checking every key and value.

    Raises:
        ConfigError: Unknown key, or a value of the wrong kind.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(unknown_name("setting", prefix + str(key), [prefix + name for name in names]))
        arguments[key] = _convert(hints[key], value, prefix + key)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{prefix or cls.__name__}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values; `from_dict` reads it back."""
    return {
        field.name: to_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


def _read_value(text: str, item: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"--set {item!r}: the value is not readable as YAML ({told}); try quotes") from None


def _put(values: dict[str, Any], keys: list[str], value: Any, item: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {item!r}: {key!r} is a single value, it has no settings inside")
    values[keys[-1]] = value


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, key)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(unknown_name(f"value for {key}", str(value), [str(a) for a in arguments]))
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected settings inside it, got {value!r}")
        return from_dict(typing.cast(type, hint), value, key + ".")
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected settings inside it, got {value!r}")
        return {str(name): _convert(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{key}: expected a list such as [1, 2], got {value!r}")
        inner = arguments[0] if arguments else Any
        return tuple(_convert(inner, item, key) for item in value)
    return _convert_scalar(hint, value, key)


def _convert_scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{key}: expected a value of kind {name}, got {value!r}")
