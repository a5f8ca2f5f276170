from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float


@app.get("/items/{number}")
async def read(number: int, request: Request, q: str = ""):
    return {"id": number, "q": q, "root": request.scope["root_path"]}


@app.post("/items")
def add(item: Item):
    return item
