from gateway.world import World


async def test_a_call_goes_through(world: World) -> None:
    answer = await world.call()
    print(answer)
    assert "result" in answer
    answer = await world.call("send_email", {"to": ["x@evil.example"]})
    print(answer)
    print(world.records())
