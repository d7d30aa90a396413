"""Write what came out of a run: a page for people, JSON for programs, JUnit XML for CI services.

``report.json`` has the fields that `RunReport.as_dict` describes. ``junit.xml`` has one test case a notebook.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from jinja2 import Environment, PackageLoader

from dockerlab.course.results import NotebookResult, RunReport

# What XML 1.0 does not allow even as an escape: a terminal's control characters in a traceback would break the file.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE = "dockerlab"


def write(report: RunReport, out: Path) -> None:
    """Write index.html, report.json and junit.xml into a folder.

    Parameters
    ----------
    report : RunReport
        What came out of the run.
    out : Path
        The folder, which holds the notebooks' pages already.
    """
    (out / "index.html").write_text(index_page(report), "utf-8")
    (out / "report.json").write_text(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    (out / "junit.xml").write_bytes(junit(report))


def index_page(report: RunReport) -> str:
    """Give the overview as one self-contained page."""
    templates = Environment(loader=PackageLoader("dockerlab.course", ""), autoescape=True, trim_blocks=True)
    templates.filters["duration"] = duration
    return templates.get_template("index.html.j2").render(report=report)


def junit(report: RunReport) -> bytes:
    """Give the run as JUnit XML: one suite, one test case a notebook."""
    counts: dict[str, Any] = {
        "tests": len(report.notebooks),
        "failures": report.count("failed") + report.count("interrupted"),
        "errors": 0,
        "skipped": report.count("not run"),
        "time": f"{report.seconds:.3f}",
    }
    attributes = {key: str(value) for key, value in counts.items()}
    suites = ET.Element("testsuites", {"name": _SUITE, **attributes})
    suite = ET.SubElement(suites, "testsuite", {"name": _SUITE, "timestamp": report.started, **attributes})
    properties = ET.SubElement(suite, "properties")
    for key, value in report.environment.items():
        ET.SubElement(properties, "property", {"name": _xml(key), "value": _xml(value)})
    for result in report.notebooks:
        _case(suite, result)
    ET.indent(suites)
    xml: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def duration(seconds: float) -> str:
    """Give a number of seconds as a person reads it, for instance "1 min 5 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _case(suite: ET.Element, result: NotebookResult) -> None:
    name = {"classname": f"{_SUITE}.notebooks", "name": _xml(result.name), "time": f"{result.seconds:.3f}"}
    case = ET.SubElement(suite, "testcase", name)
    if result.failure is not None:
        kind = result.failure.error or result.failure.kind
        failure = ET.SubElement(case, "failure", {"type": _xml(kind), "message": _xml(str(result.failure))})
        failure.text = _xml(result.failure.detail or str(result.failure))
    elif result.status == "not run":
        ET.SubElement(case, "skipped", {"message": "The run was interrupted before this notebook."})
    if result.warnings:
        ET.SubElement(case, "system-err").text = _xml("\n".join(result.warnings))


def _xml(text: str) -> str:
    return _NOT_XML.sub("", text)
