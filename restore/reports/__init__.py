"""Score reports as files: JSON and CSV for programs, one self-contained HTML page with pictures for people."""

from __future__ import annotations

from restore.reports.documents import (
    SCHEMA_VERSION,
    Provenance,
    as_csv,
    as_document,
    as_json,
    provenance,
)
from restore.reports.page import as_html
from restore.reports.writing import save_statistics, statistics_files, write_reports

__all__ = [
    "SCHEMA_VERSION",
    "Provenance",
    "as_csv",
    "as_document",
    "as_html",
    "as_json",
    "provenance",
    "save_statistics",
    "statistics_files",
    "write_reports",
]
