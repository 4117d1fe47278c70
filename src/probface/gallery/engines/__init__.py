"""Databases that hold a gallery, one to a file; each keeps the protocol of :mod:`probface.gallery.store`."""
