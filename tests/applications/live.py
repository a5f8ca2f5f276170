import contextlib

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"pool": "a pool"}


async def lines(request):
    async def made():
        for number in range(3):
            yield f"line {number}\n"

    return StreamingResponse(made(), media_type="text/plain")


async def talk(websocket):
    await websocket.accept()
    async for message in websocket.iter_json():
        await websocket.send_json({"said": message["say"], "pool": websocket.state.pool})


app = Starlette(routes=[Route("/lines", lines), WebSocketRoute("/talk", talk)], lifespan=lifespan)
