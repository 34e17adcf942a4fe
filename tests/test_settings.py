"""Settings: sources, precedence, errors that name their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchfloor.model.errors import InputError
from watchfloor.settings import load


def test_defaults_need_no_source(tmp_path: Path) -> None:
    settings = load({"WATCHFLOOR_DATA": str(tmp_path)})
    assert settings.effective_server_url == "http://127.0.0.1:7700"
    assert settings.effective_database_url == f"sqlite:///{tmp_path}/control.db"


def test_options_win_over_environment_over_file(tmp_path: Path) -> None:
    (tmp_path / "watchfloor.toml").write_text("port = 1111\nworkers = 3\nlease_seconds = 2\n")
    environment = {"WATCHFLOOR_DATA": str(tmp_path), "WATCHFLOOR_PORT": "2222", "WATCHFLOOR_WAIT_FOR_SYNC": "true"}
    settings = load(environment, overrides={"gateway_port": 3333, "host": None})
    assert (settings.port, settings.workers, settings.gateway_port) == (2222, 3, 3333)
    assert settings.wait_for_sync and settings.lease_seconds == 2.0 and settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "file", "says"),
    [
        ({"WATCHFLOOR_PROT": "1"}, "", "WATCHFLOOR_PROT: unknown setting 'prot'. Did you mean port?"),
        ({"WATCHFLOOR_PORT": "many"}, "", "WATCHFLOOR_PORT: 'many' is not a valid int"),
        ({"WATCHFLOOR_LEASE_SECONDS": "900"}, "", "lease_seconds: 900.0 is outside"),
        ({}, "workers = true\n", "workers: True is not a valid int"),
        ({}, "workers = \n", "is not valid TOML"),
    ],
)
def test_a_wrong_setting_is_refused_and_its_source_named(
    tmp_path: Path, environment: dict[str, str], file: str, says: str
) -> None:
    if file:
        (tmp_path / "watchfloor.toml").write_text(file)
    with pytest.raises(InputError) as caught:
        load({"WATCHFLOOR_DATA": str(tmp_path), **environment})
    assert says in str(caught.value)
