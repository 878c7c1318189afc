"""Compare folders of restored pictures with their references.

pair_files      two folders → pairs by name
assert_scorable folders → nothing, or the error that scoring them would end in
load_measures   names of metrics → Measures, their weights loaded, those without weights named
score_folders   two folders → ScoreReport
difference      two ScoreReports → by how much the second's scores exceed the first's, pair by pair
"""

from __future__ import annotations

from restore.scoring.combination import Combination
from restore.scoring.folders import assert_scorable, score_folders, score_pair
from restore.scoring.gathering import files_of_statistics, is_statistics, load_statistics
from restore.scoring.measures import FID, Measures, load_measures
from restore.scoring.pairing import Pair, Pairing, Skipped, pair_files
from restore.scoring.preparation import Preparation
from restore.scoring.records import (
    Difference,
    Failure,
    PairScore,
    ScoreReport,
    SetScore,
    Summary,
    difference,
)
from restore.scoring.resampling import BOOTSTRAP

__all__ = [
    "BOOTSTRAP",
    "FID",
    "Combination",
    "Difference",
    "Failure",
    "Measures",
    "Pair",
    "PairScore",
    "Pairing",
    "Preparation",
    "ScoreReport",
    "SetScore",
    "Skipped",
    "Summary",
    "assert_scorable",
    "difference",
    "files_of_statistics",
    "is_statistics",
    "load_measures",
    "load_statistics",
    "pair_files",
    "score_folders",
    "score_pair",
]
