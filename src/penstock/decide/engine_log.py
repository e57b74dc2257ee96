"""Which engine wrote this, and what does it say of its memory?"""

from __future__ import annotations

from penstock.decide.engine_report import EngineReport, report_of_log, report_of_metrics
from penstock.decide.llama_cpp_report import is_llama_cpp, report_of_llama_cpp
from penstock.decide.sglang_report import is_sglang, report_of_sglang


def report_of(text: str) -> EngineReport:
    """Of a log or of metrics; all zeros where it says nothing that is known."""
    if "vllm:cache_config_info" in text:
        return report_of_metrics(text)
    if is_sglang(text):
        return report_of_sglang(text)
    return report_of_llama_cpp(text) if is_llama_cpp(text) else report_of_log(text)
