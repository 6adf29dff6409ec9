"""Raw hospital tables → a MEDS dataset on disk; `sources()` lists what can be read."""

from caretrace.ingest.catalogue import Source, source_mapping, sources
from caretrace.ingest.pipeline import ingest

__all__ = ["Source", "ingest", "source_mapping", "sources"]
