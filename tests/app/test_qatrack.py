import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from app.evaluate_qatrack import TestList, body, read_test_list

SCHEMA = json.loads((Path(__file__).parent / "qatrack_testlistinstance.schema.json").read_text())
VALID = Draft202012Validator(SCHEMA)
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
FOUND = {
    "structures": {"PTV": {"d95_gy": 57.5}},
    "goals": [{"structure": "PTV", "goal": "D95% >= 95 %", "met": True, "value": 57.5}],
    "complexity": {"not_evaluated": "the machine 'X' is not described here"},
    "delivery_seconds": None,
    "machine": "generic-6mv",
}
LIST = """
unit_test_collection = "http://127.0.0.1:8081/api/qa/unittestcollections/327/"
comment = "Plan check"

[tests]
ptv_d95 = "structures/PTV/d95_gy"
ptv_covered = "goals/PTV D95% >= 95 %/met"
mcs = "complexity/modulation_score"
seconds = "delivery_seconds"
linac = "machine"
chiasm = "structures/OpticChiasm/d0.03cc_gy"
"""


def listed(tmp_path: Path, text: str = LIST) -> TestList:
    (tmp_path / "list.toml").write_text(text)
    return read_test_list(tmp_path / "list.toml")


def example() -> dict:
    """The body of the guide's own example."""
    return {
        "unit_test_collection": "http://127.0.0.1:8081/api/qa/unittestcollections/327/",
        "in_progress": False,
        "work_started": "2018-07-6 10:00",
        "work_completed": "2018-07-6 11:00",
        "comment": "test list comment",
        "tests": {
            "number_1": {"value": 1, "comment": "hello number 1"},
            "number_2": {"value": 2, "skipped": False},
        },
        "attachments": [],
    }


def test_the_examples_of_the_guide_are_valid():
    VALID.validate(example())
    files = {
        "upload_text_test": {"filename": "test.txt", "value": "hello text", "encoding": "text"},
        "upload_binary_test": {"filename": "image.png", "value": "aGVsbG8=", "encoding": "base64"},
    }
    report = {"filename": "some_report.pdf", "value": "aGVsbG8=", "encoding": "base64"}
    VALID.validate({**example(), "tests": files, "attachments": [report]})


def test_what_qatrack_takes_in_its_own_tests_is_valid():
    # The body that qatrack/api/qa/tests/test_api.py posts, and a test that it skips.
    VALID.validate(
        {
            "unit_test_collection": "/api/qa/unittestcollections/1/",
            "work_completed": "2019-07-25 10:49:47",
            "work_started": "2019-07-25 10:49:00",
            "comment": None,
            "tests": {
                "test1": {"value": 1},
                "test3": {"value": "test three"},
                "test4": {"value": True},
                "test2": {"value": None, "skipped": True},
            },
        }
    )


@pytest.mark.parametrize(
    "broken",
    [
        {"work_started": None},
        {"work_started": "yesterday"},
        {"tests": [1, 2]},
        {"tests": {}},
        {"tests": {"number 1": {"value": 1}}},
        {"tests": {"number_1": 1}},
        {"tests": {"number_1": {"comment": "a value is mandatory"}}},
        {"tests": {"number_1": {"value": None}}},
        {"unit_test_collection": "Unit 1"},
        {"attachments": [{"filename": "report.pdf", "value": "b'aGVsbG8='", "encoding": "base64"}]},
        {"attachments": [{"filename": "report.pdf"}]},
        {"attachments": {"filename": "report.pdf", "value": "aGVsbG8="}},
        {"testes": {}},
    ],
)
def test_a_broken_body_is_not_valid(broken):
    with pytest.raises(ValidationError):
        VALID.validate({**example(), **broken})


def test_our_body_is_valid_and_holds_the_figures(tmp_path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4 a report")
    told = json.loads(json.dumps(body(listed(tmp_path), FOUND, NOW, NOW, [tmp_path / "report.pdf"])))
    VALID.validate(told)
    assert told["tests"]["ptv_d95"] == {"value": 57.5}
    assert told["tests"]["ptv_covered"] == {"value": 1}
    assert told["tests"]["linac"] == {"value": "generic-6mv"}
    assert told["work_started"] == "2026-11-21T09:30:00+00:00"
    assert "esearch use only" in told["comment"]
    assert base64.b64decode(told["attachments"][0]["value"]) == b"%PDF-1.4 a report"


def test_a_figure_that_there_is_not_is_skipped_with_its_reason(tmp_path):
    told = body(listed(tmp_path), FOUND, NOW, NOW)["tests"]
    assert told["mcs"] == {"value": None, "skipped": True, "comment": "the machine 'X' is not described here"}
    assert told["seconds"]["skipped"] is True
    assert told["chiasm"]["skipped"] is True


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tests = 1", "correct the list"),
        (LIST.replace("327/", "327"), "URL of a list"),
        (LIST.replace("ptv_d95", '"ptv d95"'), "macro name"),
        (LIST.split("[tests]", maxsplit=1)[0] + "[tests]", "no test"),
        (LIST.replace("comment", "remark"), "remark"),
        ("= = =", "TOML"),
    ],
)
def test_a_list_that_qatrack_could_not_take_is_refused(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        listed(tmp_path, text)


@pytest.mark.parametrize("way", ["structure/PTV", "structures/PTV"])
def test_a_way_that_leads_to_no_one_figure_is_refused(tmp_path, way):
    with pytest.raises(ValueError, match="way"):
        body(listed(tmp_path, LIST.replace("structures/PTV/d95_gy", way)), FOUND, NOW, NOW)
