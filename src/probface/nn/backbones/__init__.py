"""Recognition networks of the field, one family to a file, under one contract: :mod:`probface.nn.face_network`."""
