"""``watchfloor notify`` against the real API over a real port."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from portal.house import open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role


def test_who_would_be_told_is_shown_and_nobody_is_until_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        token = tmp_path / "token"
        token.write_text(house.token(Role.SOC_OPERATOR))

        def run(*arguments: str) -> Result:
            return CliRunner().invoke(main, ["notify", *arguments, "--server", url, "--token-file", str(token)])

        asked = ["makers", "--agent", "billing", "--agent", "ghost", "--reason", "Its owner is unclear"]
        shown = run(*asked).stdout
        assert shown.splitlines() == [
            "new  ada: ada@zava.example",
            "    billing",
            "left out  ghost: there is no such agent in the registry",
            "Nothing was sent. Add --send.",
        ]
        assert run("list").stdout == ""
        assert "new" not in run(*asked, "--send").stdout
        assert "  waiting  ada  0 of 1 fixed, 0 reminders" in run("list", "--state", "waiting").stdout
        again = run(*asked, "--send")
        assert again.exit_code == 1 and "is still open" in again.stderr
