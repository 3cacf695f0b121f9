"""Settings: where they come from, and what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate.errors import ConfigError
from tidegate.options import SecretStr
from tidegate.settings import ClientSettings, load_settings

FILE = """
model = "openai/from-file"
timeout = 30
workers = 3

[retry]
attempts = 3
first = 0.25

[profiles.batch]
timeout = 300

[profiles.batch.retry]
attempts = 9
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tidegate.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_an_argument_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    environ = {"TIDEGATE_TIMEOUT": "20", "TIDEGATE_WORKERS": "5"}
    settings = load_settings({"workers": 7}, file=file, environ=environ)
    assert (settings.workers, settings.timeout, settings.model) == (7, 20.0, "openai/from-file")
    assert settings.proxy == "env"


def test_options_are_merged_field_by_field(file: Path) -> None:
    settings = load_settings({}, file=file, environ={"TIDEGATE_RETRY__ATTEMPTS": "2"})
    assert settings.retry is not None
    assert (settings.retry.attempts, settings.retry.first, settings.retry.factor) == (2, 0.25, 2.0)


def test_a_profile_overrides_the_file(file: Path) -> None:
    settings = load_settings({}, file=file, profile="batch", environ={})
    assert settings.retry is not None
    assert (settings.timeout, settings.retry.attempts, settings.retry.first) == (300.0, 9, 0.25)


def test_a_policy_can_be_switched_off_from_the_environment() -> None:
    assert load_settings({}, environ={"TIDEGATE_RETRY": "off"}).retry is None
    assert load_settings({}, environ={"TIDEGATE_TIMEOUT": "none"}).timeout is None


def test_a_client_is_the_same_from_a_file_and_from_arguments(file: Path) -> None:
    with tidegate.Client.from_config(file, api_key="sk-test-key") as from_file:
        assert from_file.model == "openai/from-file"
        assert "Retry(attempts=3)" in repr(from_file)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"timeout": 0}, r"`Client\(timeout=…\)`: input should be greater than 0"),
        ({"timeout": -1}, "greater than 0"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "finite"),
        ({"timeout": "soon"}, "valid number"),
        ({"workers": 0}, "workers"),
        ({"retry": {"attempts": 0}}, r"`Client\(retry=…\)`: `Retry\(attempts=…\)`: input should be greater than 0"),
        ({"retry": {"atempts": 2}}, "`Retry` has no option `atempts`; did you mean `attempts`"),
        ({"tiemout": 2}, "no option `tiemout`; did you mean `timeout`"),
        ({"proxy": 7}, "proxy"),
    ],
)
def test_a_wrong_setting_is_named(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(arguments, environ={})


def test_a_wrong_setting_says_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("timeout = -1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"`Client\(timeout=…\)`.*\(in the file `.*t\.toml`\)"):
        load_settings({}, file=path, environ={})
    with pytest.raises(ConfigError, match=r"`Client\(timeout=…\)`.*\(in the environment, as `TIDEGATE_…`\)"):
        load_settings({}, environ={"TIDEGATE_TIMEOUT": "soon"})
    with pytest.raises(ConfigError, match=r"greater than 0$"):
        load_settings({"timeout": 0}, file=None, environ={"TIDEGATE_WORKERS": "2"})


def test_options_refuse_an_unknown_name_and_a_change() -> None:
    with pytest.raises(ConfigError, match="`Retry` has no option `attempt`; did you mean `attempts`"):
        tidegate.Retry(attempt=2)  # type: ignore[call-arg]
    with pytest.raises(Exception, match="frozen"):
        tidegate.Retry().attempts = 2


@pytest.mark.parametrize(
    ("text", "profile", "says"),
    [
        ("model = ", None, "is no TOML"),
        ("timeout = 3\n", "batch", r"has no `\[profiles.batch\]`"),
        ("[profiles.batch]\n", "bach", "did you mean `batch`"),
        ("tiemout = 3\n", None, "no option `tiemout`"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, profile: str | None, says: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_settings({}, file=path, profile=profile, environ={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml` cannot be read: No such file"):
        load_settings({}, file=tmp_path / "no.toml", environ={})


def test_a_secret_is_not_shown_when_it_is_wrong_or_printed() -> None:
    assert "sk-canary" not in repr(ClientSettings(api_key=SecretStr("sk-canary")))
    with pytest.raises(ConfigError) as caught:
        load_settings({"api_key": ["sk-canary"]}, environ={})
    assert "sk-canary" not in str(caught.value)


CONTRADICTIONS = {
    "`Retry(first=…)`: 30 s are more than `longest`, 20 s": {"retry": tidegate.Retry(first=30)},
    "`Limits(store=…)`: there is nothing to share": {"limits": tidegate.Limits(store="redis://127.0.0.1:1/0")},
    "`Limits(itpm=…)`: it is part of `tpm`": {"limits": tidegate.Limits(tpm=100, itpm=200)},
    "`Limits(otpm=…)`: it is part of `tpm`": {"limits": tidegate.Limits(tpm=100, otpm=200)},
}


@pytest.mark.parametrize(("problem", "options"), CONTRADICTIONS.items())
def test_options_that_cannot_all_be_meant_are_refused(problem: str, options: dict[str, Any]) -> None:
    with pytest.raises(tidegate.ConfigError, match=re.escape(problem)):
        tidegate.Client("openai/x", api_key="sk-1", **options)


def test_options_of_two_sources_are_looked_at_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one source says alone may be completed by another."""
    monkeypatch.setenv("TIDEGATE_RETRY__FIRST", "30")
    file = tmp_path / "tidegate.toml"
    file.write_text('model = "openai/x"\napi_key = "sk-1"\n[retry]\nlongest = 60\n')
    with tidegate.Client.from_config(file) as client:
        assert "Retry" in repr(client)
