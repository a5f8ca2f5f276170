"""Who may log in: `<auth NAME>` sections, which servers name.

```
<auth> ─▶ sections: passwords │ keys │ checkers ─▶ auth ─▶ portal      (Twisted's protocols, in the reactor)
                       hashes      failures  remembered └─▶ gate       (HTTP, in whatever thread)
```

What a client learns is the same for a wrong password and for a user that is not there, and takes as long.
"""
