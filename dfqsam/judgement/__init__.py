"""What clinicians say of masks: a store that only grows, and what a review asks of it. Standard library only.

From the bottom up: ``chain`` hashes, ``schema`` and ``log`` keep any chained entries in SQLite, ``record`` says what a
judgement is and ``site_key`` who, ``history`` reads, ``store`` writes; ``statistics``, ``review`` and ``table`` show.
"""

from dfqsam.judgement.chain import Head
from dfqsam.judgement.history import Stored
from dfqsam.judgement.log import Log
from dfqsam.judgement.record import MODALITIES, REASONS, Draw, Figures, Judgement, Subject, modality_code
from dfqsam.judgement.review import Filter, agreement, counts, preference
from dfqsam.judgement.site_key import SiteKey, open_key, session_rater
from dfqsam.judgement.store import JudgementStore
from dfqsam.judgement.table import to_csv, write_csv

__all__ = [
    "MODALITIES",
    "REASONS",
    "Draw",
    "Figures",
    "Filter",
    "Head",
    "Judgement",
    "JudgementStore",
    "Log",
    "SiteKey",
    "Stored",
    "Subject",
    "agreement",
    "counts",
    "modality_code",
    "open_key",
    "preference",
    "session_rater",
    "to_csv",
    "write_csv",
]
