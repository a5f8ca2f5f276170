from klein import Klein

app = Klein()


@app.route("/<name>")
def book(request, name):
    return f"{name} is on the shelf"
