"""The `<server>` section: any server type by its name, or any factory by its dotted name, as in zope.app.twisted."""
