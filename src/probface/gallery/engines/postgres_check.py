"""What is wrong with a gallery in PostgreSQL, found by reading all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probface.gallery.engines.postgres_session import driver
from probface.gallery.records import ModelBinding
from probface.types import UNIT_TOLERANCE

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

_QUERIES = {
    "identities have no reference": (
        "SELECT count(*) FROM identity i WHERE NOT EXISTS (SELECT 1 FROM reference r WHERE r.identity = i.id)"
    ),
    "references have no identity": (
        "SELECT count(*) FROM reference r WHERE NOT EXISTS (SELECT 1 FROM identity i WHERE i.id = r.identity)"
    ),
    "references have no vector": (
        "SELECT count(*) FROM reference r WHERE NOT EXISTS (SELECT 1 FROM embedding e WHERE e.reference = r.id)"
    ),
    "vectors belong to no reference of their identity": (
        "SELECT count(*) FROM embedding e "
        "WHERE NOT EXISTS (SELECT 1 FROM reference r WHERE r.id = e.reference AND r.identity = e.identity)"
    ),
    "images belong to no reference": (
        "SELECT count(*) FROM image m WHERE NOT EXISTS (SELECT 1 FROM reference r WHERE r.id = m.reference)"
    ),
    "identities or references have an id that is still to be given": (
        "SELECT (SELECT count(*) FROM identity i WHERE i.id > g.last_identity) "
        "+ (SELECT count(*) FROM reference r WHERE r.id > g.last_reference) FROM gallery g"
    ),
    "entries of the log of changes are of a generation to come": (
        "SELECT count(*) FROM change c, gallery g WHERE c.generation > g.generation"
    ),
    "generations have no stamp": (
        "SELECT count(*) FROM (SELECT generation FROM change UNION SELECT generation FROM gallery "
        "UNION SELECT log_from FROM gallery) known "
        "WHERE generation BETWEEN 0 AND (SELECT generation FROM gallery) "
        "AND NOT EXISTS (SELECT 1 FROM stamp s WHERE s.generation = known.generation)"
    ),
    "vectors are not of unit length": (
        f"SELECT count(*) FROM embedding WHERE abs(vector_norm(mu) - 1) > {UNIT_TOLERANCE}"  # noqa: S608
    ),
    "qualities are not in -1..100": "SELECT count(*) FROM embedding WHERE quality NOT BETWEEN -1 AND 100",
    "indexes are not valid; REINDEX them": (
        "SELECT count(*) FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
        "WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'gallery'::regclass) "
        "AND NOT x.indisvalid"
    ),
}
"""What is wrong, after a number, and the query that counts it."""

_ONE_VARIANCE = "SELECT count(*) FROM embedding WHERE NOT (sigma_sq > 0 AND sigma_sq < 'infinity')"
_EACH_VARIANCE = "SELECT count(*) FROM embedding WHERE 0 >= ANY (sigma_sq::real[])"


def findings(cursor: Cursor, model: ModelBinding) -> tuple[str, ...]:
    """Sentences on what is wrong; none where the gallery is sound.

    Args:
        cursor: inside a transaction that sees one state of the database.
        model: that made the vectors.
    """
    errors = driver().errors
    variances = _ONE_VARIANCE if model.sigma_sq_width == 1 else _EACH_VARIANCE
    wrong = []
    try:
        for what, query in {**_QUERIES, "vectors have a variance that is not positive": variances}.items():
            cursor.execute(query.encode())
            [(number,)] = cursor.fetchall()
            if number:
                wrong.append(f"{number} {what}")
    except (errors.DataCorrupted, errors.IndexCorrupted) as error:
        # The transaction is void, so the rest cannot be asked.
        wrong.append(f"the server found damaged pages: {' '.join(str(error).split())}; restore a backup")
    return tuple(wrong)
