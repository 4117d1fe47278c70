"""``probface evaluate``: from a data set to ``results.json`` and ``report.html``, one file a protocol."""
