"""Exact metrics, evaluation protocols and re-ranking."""

from kronreid.evaluation.datasets import dataset_task, evaluate_dataset
from kronreid.evaluation.evaluate import RankedList, Result, evaluate, evaluate_scores
from kronreid.evaluation.protocols import PROTOCOLS, Protocol, Task, prepare
from kronreid.evaluation.report import table
from kronreid.evaluation.rerank import average_query_expansion
from kronreid.evaluation.verification import Verification, verify_pairs

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "RankedList",
    "Result",
    "Task",
    "Verification",
    "average_query_expansion",
    "dataset_task",
    "evaluate",
    "evaluate_dataset",
    "evaluate_scores",
    "prepare",
    "table",
    "verify_pairs",
]
