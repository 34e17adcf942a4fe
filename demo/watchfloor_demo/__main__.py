"""``python -m watchfloor_demo``: bring the company to life, attack it, or play the whole story.

``run`` is what ``watchfloor up --demo`` starts; ``story`` starts everything by itself and cleans up after itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import httpx

from watchfloor_demo import company
from watchfloor_demo.agents.plans import plans
from watchfloor_demo.agents.signin import SignInRefused, with_browser, with_password
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.agents.worker import Conversation, Worker
from watchfloor_demo.api import Api, ApiError
from watchfloor_demo.attack import Attempt, script
from watchfloor_demo.attack import attack as play_attack
from watchfloor_demo.headquarters import open_headquarters
from watchfloor_demo.running import (
    READY_SECONDS,
    http_client,
    instrument_of,
    read_token,
    set_up,
    shadow_of,
    traffic_of,
    welcome,
)
from watchfloor_demo.runtime import NoCompany, Runtime
from watchfloor_demo.serving import PortTaken
from watchfloor_demo.story.play import STEPS
from watchfloor_demo.story.play import run as play_story
from watchfloor_demo.story.show import Lines, Terminal

_directory = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), required=True, help="Where the company keeps its secrets."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Zava, a company to try Watchfloor on."""


def _stopped() -> asyncio.Event:
    """Set by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@main.command()
@click.option("--server", required=True, help="Base URL of Watchfloor's server.")
@click.option("--gateway", required=True, help="Base URL of Watchfloor's gateway.")
@click.option(
    "--receiver", default="", help="Base URL of Watchfloor's telemetry receiver; without it agents tell nothing."
)
@click.option("--base-port", type=int, default=7720, show_default=True, help="First port; 0 takes any free ones.")
@_directory
@click.option(
    "--admin-token-file", type=click.Path(path_type=Path), required=True, help="Token to apply the company with."
)
@click.option("--rate", type=float, default=1.0, show_default=True, help="Background tool calls a second.")
@click.option("--seed", type=int, default=7, show_default=True, help="What the background traffic is drawn from.")
def run(
    server: str,
    gateway: str,
    receiver: str,
    base_port: int,
    directory: Path,
    admin_token_file: Path,
    rate: float,
    seed: int,
) -> None:
    """Open the company, register it with Watchfloor, and let its people work until SIGTERM."""
    runtime = Runtime.open(directory)
    runtime.server, runtime.gateway, runtime.receiver = (at.rstrip("/") for at in (server, gateway, receiver))
    ready = directory / "ready"
    ready.unlink(missing_ok=True)

    async def live() -> None:
        stop = _stopped()
        async with open_headquarters(runtime, base_port), http_client() as http:
            api = Api(runtime.server, await read_token(admin_token_file, READY_SECONDS), http)
            await api.wait_until_ready(READY_SECONDS)
            await set_up(api, runtime)
            runtime.save()
            text = welcome(runtime)
            (directory / "welcome.txt").write_text(text, "utf-8")
            async with (
                instrument_of(runtime) as instrument,
                shadow_of(instrument),
                traffic_of(runtime, http, rate, seed=seed, instrument=instrument) as traffic,
            ):
                ready.write_text("ready\n", "utf-8")
                click.echo(text)
                await stop.wait()
        click.echo(json.dumps(traffic.tally.facts()))

    try:
        asyncio.run(live())
    except (PortTaken, ApiError, TimeoutError) as error:
        raise click.ClickException(str(error) or f"{admin_token_file} was not written in time") from error
    finally:
        ready.unlink(missing_ok=True)


@main.command()
@_directory
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, help="Attempts.")
@click.option("--pause", type=float, default=0.3, show_default=True, help="Seconds between attempts.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON at the end, nothing else.")
def attack(directory: Path, count: int, pause: float, as_json: bool) -> None:
    """Play the thief: a stolen session, an outside address, one jailbreak after another.

    Exit status 0 if every attempt was refused, 1 if one got through.
    """
    runtime = _open(directory)

    def show(number: int, attempt: Attempt) -> None:
        if not as_json:
            outcome = attempt.outcome
            colour = "green" if outcome.status == "refused" else "red"
            verdict = click.style(f"{outcome.status} ({outcome.code})", fg=colour)
            click.echo(f"{number:3}  {attempt.server}.{attempt.tool}: {verdict}  {attempt.words[:70]}")

    async def steal() -> int:
        async with http_client() as http, instrument_of(runtime) as instrument:
            # Griffin signs in like every day; what the thief has is a copy of what the browser got.
            stolen = (await with_browser(runtime, http, script().victim)).copy()

            async def pace() -> None:
                await asyncio.sleep(pause)

            done = await play_attack(
                Tokens(runtime, http), stolen, count=count, pace=pace, on_attempt=show, instrument=instrument
            )
        if as_json:
            click.echo(json.dumps(done.facts()))
        else:
            click.echo(f"{len(done.attempts)} attempts, {done.blocked} refused.")
        return 0 if done.attempts and done.blocked == len(done.attempts) else 1

    sys.exit(_run(steal()))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a step, the summary last.")
@click.option("--step", "until", type=click.Choice([s.name for s in STEPS]), help="Stop after this step.")
@click.option("--attempts", type=click.IntRange(6, 100), default=12, show_default=True, help="Attempts of the thief.")
@click.option("--rate", type=float, default=12.0, show_default=True, help="Background tool calls a second.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work in this directory and leave it there.")
def story(as_json: bool, until: str | None, attempts: int, rate: float, keep: Path | None) -> None:
    """Play the attack and the response from nothing, over the real doors, and clean up.

    Exit status 0 only if every step went as it must.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.ClickException(f"{keep} is not empty; the story starts from nothing")
    show = Lines() if as_json else Terminal()
    sys.exit(play_story(show, until=until or "", attempts=attempts, rate=rate, keep=keep))


@main.command()
@_directory
@click.argument("plan", metavar="PLAN", type=click.Choice(sorted(p.id for p in plans().values() if p.asks or p.weight)))
@click.option("--as", "person_id", help="Who asks; somebody who may, if not given.")
def ask(directory: Path, plan: str, person_id: str | None) -> None:
    """Have one person ask one agent for something, and show what happens."""
    runtime = _open(directory)

    async def play() -> int:
        played, rng = plans()[plan], random.Random()
        agent = company.agents()[played.agent]
        async with http_client() as http, instrument_of(runtime) as instrument:
            person = sign_in = None
            if agent.runs_as == "user":
                person = company.people()[person_id] if person_id else rng.choice(company.members(*played.groups))
                sign_in = await with_password(runtime, http, person.id)
            memory = played.draw(rng)
            words = played.request(rng, memory)
            click.echo(f"{person.name if person else 'Schedule'} -> {agent.name}: {words or played.id}")
            talk = Conversation(agent, person, sign_in)

            async with Worker(
                Tokens(runtime, http),
                talk,
                record=lambda who, call, outcome: click.echo(
                    f"  {who}: {call.server}.{call.tool} {outcome.status} {outcome.code}"
                    + (f"  (told so: {call.obeys.kind} to {call.obeys.target})" if call.obeys else "")
                ),
                instrument=instrument,
            ) as worker:
                is_done = await worker.serve(played, words, memory)
            for said in talk.said:
                click.echo(f"{agent.name}: {said}")
        return 0 if is_done else 1

    sys.exit(_run(play()))


@main.command()
@_directory
@click.option("--rate", type=float, default=5.0, show_default=True, help="Tool calls a second.")
@click.option("--seconds", type=float, help="How long; until Ctrl-C if not given.")
@click.option("--seed", type=int, default=11, show_default=True, help="What the traffic is drawn from.")
def traffic(directory: Path, rate: float, seconds: float | None, seed: int) -> None:
    """More background traffic beside that of a running company. Prints what became of it, as JSON."""
    runtime = _open(directory)

    async def work() -> int:
        stop = _stopped()
        async with (
            http_client() as http,
            instrument_of(runtime) as instrument,
            traffic_of(runtime, http, rate, seed=seed, instrument=instrument) as busy,
        ):
            if seconds is None:
                await stop.wait()
            else:
                asyncio.get_running_loop().call_later(seconds, stop.set)
                await stop.wait()
        click.echo(json.dumps(busy.tally.facts()))
        return 0 if busy.tally.calls and busy.tally.succeeded == busy.tally.calls else 1

    sys.exit(_run(work()))


def _open(directory: Path) -> Runtime:
    try:
        runtime = Runtime.load(directory)
    except NoCompany as error:
        raise click.ClickException(str(error)) from error
    if not runtime.gateway:
        raise click.ClickException(f"the company of {directory} is not registered with Watchfloor yet")
    return runtime


def _run(playing: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(playing)
    except (SignInRefused, httpx.HTTPError) as error:
        raise click.ClickException(f"{error} (is the company running?)") from error
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    main()
