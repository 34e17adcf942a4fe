"""Functions behind Watchfloor without any framework: one decorator. See office.py for what it does."""

from __future__ import annotations

import office

from watchfloor_sdk import WatchfloorError


def main() -> None:
    with office.guard() as guard:
        guard = guard.bind(conversation_id="thread-1")
        tools = {tool.__name__: guard.guarded(tool) for tool in office.TOOLS}
        told, answer = [], ""
        try:
            guard.observe(user_turns=[office.prompt()])
            for step in office.script():
                if "say" in step:
                    answer = step["say"]
                    continue
                try:
                    told.append(tools[step["tool"]](**step["arguments"]))
                except WatchfloorError as error:
                    told.append(error.for_model)
        except WatchfloorError as error:
            answer = error.for_model
        office.report(told, answer)


if __name__ == "__main__":
    main()
