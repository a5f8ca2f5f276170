"""An application that is named by its file."""

from wsgi_beside import answer


def application(environ, start_response):
    """Answers."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer, __name__.encode()]


def make():
    """Makes it."""
    return application


def make_nothing():
    """Makes something else."""
    return "nothing"


def make_and_fail():
    """Does not get that far."""
    raise ValueError("not today")
