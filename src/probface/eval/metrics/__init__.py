"""Error rates and risk curves from scores; every one is held against an independent implementation."""
