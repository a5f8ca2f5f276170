import hashlib
import io

from flask import Blueprint, Flask, abort, jsonify, redirect, request, send_file, session, stream_with_context, url_for

pages = Blueprint("pages", __name__)


@pages.get("/")
def front():
    return jsonify(notes=session.get("notes", []), here=url_for("pages.front"), there=request.url)


@pages.post("/")
def add():
    session["notes"] = [*session.get("notes", []), request.form["note"]]
    return redirect(url_for("pages.front"), 303)


@pages.put("/sum")
def checksum():
    found = hashlib.sha256()
    while block := request.stream.read(65536):
        found.update(block)
    return found.hexdigest()


@pages.get("/stream")
def stream():
    def lines():
        for number in range(1000):
            yield f"{request.path} {number}\n"

    return stream_with_context(lines()), {"Content-Type": "text/plain"}


@pages.get("/file")
def file():
    return send_file(
        io.BytesIO(bytes(range(256)) * 1000), mimetype="application/x-notes", conditional=True, etag="notes"
    )


@pages.get("/json")
def as_json():
    return {"ünïcode": request.args.get("q")}


@pages.get("/teapot")
def teapot():
    abort(418)


@pages.get("/fail")
def fail():
    raise RuntimeError("a page that fails")


def create_app():
    app = Flask(__name__)
    app.secret_key = "for tests only"
    app.register_blueprint(pages)
    return app
