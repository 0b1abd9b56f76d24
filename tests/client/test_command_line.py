"""The command line: what it prints for people and for programs, and what it says of mistakes."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from penumbra import show, usage
from penumbra.__main__ import COMMANDS, main
from penumbra.progress import Bar, clock_time
from tests.api.live import Server

ROW = "0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0.0,0.02,-0.02"
NAMED = "age=0.04,sex=0.05,bmi=0.06,bp=0.02,s1=-0.04,s2=-0.03,s3=-0.04,s4=0,s5=0.02,s6=-0.02"
NEGATIVE = "-" + ROW


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command against the service: (exit code, standard output, standard error)."""
    monkeypatch.setenv("PENUMBRA_URL", server.url)

    def command(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return (code, *capsys.readouterr())

    return command


def test_models_and_what_they_expect(run: Any) -> None:
    """Names, tasks, ranges, classes."""
    code, out, _ = run("models")
    assert code == 0
    assert re.search(r"^diabetes +1 +regression +14daaca2$", out, re.MULTILINE)
    _, out, _ = run("model", "diabetes")
    assert re.search(r"^age +-0\.1072 … 0\.0962$", out, re.MULTILINE)
    _, out, _ = run("model", "digits")
    assert out.endswith("classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n")


@pytest.mark.parametrize("verb", ["predict", "sample"])
@pytest.mark.parametrize("model", ["diabetes", "digits"])
def test_json_is_the_services_own(run: Any, server: Server, verb: str, model: str) -> None:
    """--json prints the very bytes of the service, and what it lists."""
    rows = [[0.5] * (10 if model == "diabetes" else 64)]
    options = ["--seed", "7", "-s", "20"] if verb == "sample" else []
    code, out, _ = run(verb, model, "-", "--json", *options, stdin=json.dumps({"inputs": rows}))
    sent = {"inputs": rows, **({"seed": 7, "samples": 20} if verb == "sample" else {})}
    assert code == 0
    assert out == server.client.post(f"/v1/models/{model}/{verb}", json=sent).text + "\n"
    for path, words in (("/v1/models", ("models",)), ("/v1/models/digits", ("model", "digits"))):
        assert json.loads(run(*words, "--json")[1]) == server.client.get(path).json()


def test_rows_can_be_written_in_any_way(run: Any) -> None:
    """In order, by name, beginning with a minus, several, or as JSON."""
    _, expected, _ = run("predict", "diabetes", ROW, "--json")
    assert run("predict", "diabetes", NAMED, "--json")[1] == expected
    assert run("predict", "diabetes", "--json", "-", stdin=json.dumps([json.loads(f"[{ROW}]")]))[1] == expected
    code, out, _ = run("predict", "diabetes", NEGATIVE, ROW)
    assert code == 0
    assert re.findall(r"^ *(\d) +progression +([\d.]+)  ± [\d.]+$", out, re.MULTILINE)[1] == ("2", "198.3")


def test_a_sampling_is_a_table(run: Any) -> None:
    """Mean ± deviation, an interval as numbers and as a bar, both kinds of uncertainty; quantiles where asked for."""
    _, out, _ = run("sample", "diabetes", ROW, "--seed", "7", "--quantiles", "0.05,0.5")
    assert out.startswith("diabetes 1 · seed 7 · 100 samples · 90% conformal interval\n\n")
    assert re.search(r"1  progression  199\.9  ± 60\.04 .*├─+●─+┤ +13\.06 +58\.61 +\d", out)
    _, out, _ = run("sample", "digits", "-", "--seed", "1", stdin=json.dumps([[0] * 64]))
    assert re.search(r"^ +1 +\d +0\.\d+  ± 0\.\d+  █+░+ +\d+ of 100 +[\d.]+ +[\d.]+ +[\d, ]+$", out, re.MULTILINE)
    _, out, _ = run("sample", "digits", "-", "--seed", "1", "--samples", "20", stdin=json.dumps([[0] * 64]))
    assert out.endswith("no prediction sets: the calibration is for other settings\n")


def test_a_drawn_seed_is_shown(run: Any) -> None:
    """So that the answer can be asked for again."""
    _, out, _ = run("sample", "diabetes", ROW)
    (seed,) = re.findall(r"seed (\d+)", out)
    assert run("sample", "diabetes", ROW, "--seed", seed)[1] == out


MISTAKES: list[tuple[list[str], int, str]] = [
    (["sample", "none", ROW], 1, "there is no model of that name; there are: breast-cancer"),
    (["sample", "diabetes", "1,2"], 1, "row 1 has 2 values; diabetes takes 10 (penumbra model diabetes lists them)"),
    (["sample", "diabetes", ROW, "x" + ",1" * 9], 1, "row 2: age must be a number, not 'x'"),
    (["sample", "diabetes", "1,x=2"], 1, "row 1 has both values and NAME=VALUE pairs: use one form"),
    (
        ["sample", "diabetes", "nan" + ",1" * 9],
        1,
        "row 1: age is missing: the model was trained without missing values",
    ),
    (["sample", "diabetes", "inf" + ",1" * 9], 1, "row 1: age must be a finite number, and is infinite"),
    (["sample", "diabetes", NAMED.replace("bmi", "bmmi")], 1, "row 1 has no 'bmi', but an unknown 'bmmi'; known: age"),
    (["sample", "diabetes", NAMED + ",x=1"], 1, "row 1 has an unknown 'x'; known: age"),
    (["sample", "diabetes", "age=1,age=2"], 1, "row 1 has two values of the same name"),
    (["sample", "diabetes", "age=1,sex=2"], 1, "row 1 lacks bmi, bp, s1, s2, s3, s4, s5, s6"),
    (["predict", "diabetes", ROW, "-s", "3"], 2, "-s 3 (sampling options belong to penumbra sample)"),
    (["sample", "diabetes", "-"], 1, "standard input is not JSON"),
    (["sample", "diabetes", ROW, "-s", "0"], 1, "samples: must be a whole number from 1"),
    (["sample", "diabetes", ROW, "--dropout", "0"], 1, "has no active dropout here"),
    (
        ["sample", "diabetes", ROW, "--url", "http://127.0.0.1:1"],
        1,
        "no service at http://127.0.0.1:1: connection refused. Is it running? --url",
    ),
    (["sample", "diabetes", ROW, "--url", "here"], 1, "here is not a URL: write http://here"),
    (["sample", "diabetes", ROW, "--url", "http://here:x"], 1, "is not a URL: Invalid port"),
    (["score", "diabetes", "none.csv", "-o", "out.csv"], 1, "there is no file none.csv"),
    (["score", "diabetes", "none.csv", "-o", "out.csv", "--predict", "--seed", "1"], 1, "--predict asks no samples"),
    (["score", "diabetes", "none.csv"], 2, "required: -o/--out"),
    (["score", "diabetes", "none.csv", "-o", "x.csv", "--batch-rows", "0"], 2, "must be at least 1"),
    (["jobs"], 1, "this service takes no jobs: start it with --jobs-dir DIR"),
    (["job", "status", ""], 1, "there is no such job"),
    (["job", "result", "..", "-o", "out.csv"], 1, "there is no such job"),
    (["job", "submit", "diabetes", "none.csv"], 1, "there is no file none.csv"),
    (["job", "submit", "diabetes", "rows.xls"], 1, "rows.xls must end in .csv, .tsv or .parquet"),
    (["job", "submit", "diabetes", "rows.csv", "--predict", "-s", "3"], 1, "leave out --samples"),
    (["job", "result", "0"], 2, "required: -o/--out"),
    (["job"], 2, "required: VERB"),
    (["sampel", "diabetes", ROW], 2, "invalid choice: 'sampel'"),
]


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_mistakes_are_told_in_one_line(run: Any, monkeypatch: Any, words: list[str], code: int, message: str) -> None:
    """On standard error, with an exit code, and no traceback."""
    from penumbra import conversation

    monkeypatch.setattr(conversation.Patience, "pause", lambda *_: 0.0)
    ended, out, err = run(*words)
    assert (ended, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert code == 2 or re.fullmatch(r"penumbra: [^\n]+\n", err)


@pytest.mark.parametrize(
    "words",
    [(), ("--help",), ("job", "--help"), *((*name.split(), "--help") for name in COMMANDS)],
    ids=" ".join,
)
def test_help_teaches(run: Any, words: tuple[str, ...]) -> None:
    """Each command says what it is for, explains every option, and where rows go in shows some."""
    code, out, _ = run(*words)
    assert code == 0
    assert "PENUMBRA_URL" in out
    if words[0:1] and words[0] in {"predict", "sample", "score"}:
        assert f"penumbra {words[0]} diabetes" in out
    for action in usage.parser(COMMANDS)._actions:
        assert action.help or action.nargs


def test_an_address_with_a_version_in_it(run: Any, server: Server) -> None:
    """Is a common mistake, and told with the right address."""
    code, _, err = run("models", "--url", f"{server.url}/v1/")
    assert code == 1
    assert err.endswith(f"give the service's own address, {server.url}\n")


def test_rows_unlike_any_in_training_are_told(run: Any) -> None:
    """In one line on standard error; the answer is the same."""
    assert run("predict", "diabetes", ROW)[2] == ""
    code, out, err = run("predict", "diabetes", ROW, "0.04,0.05,25" + ",0" * 7, "9" + ",9" * 9)
    assert (code, len(out.splitlines())) == (0, 6)
    assert err == "penumbra: row 2: bmi lies far outside the range seen in training (and 1 more row)\n"
    _, _, err = run("predict", "diabetes", "-", stdin=json.dumps([[9] * 10]))
    assert err == "penumbra: row 1: 10 inputs lie far outside the range seen in training\n"


def test_numbers_are_written_in_one_way() -> None:
    """Four digits, thousands apart, no exponents where there need be none; one sample is no plural."""
    written = [show._number(number) for number in (0.12345, 12.3456, 999.96, 1234.5, -98765.4, 2e20, None)]
    assert written == ["0.1235", "12.35", "1,000", "1,234", "-98,765", "2e+20", ""]
    assert [show._samples(count) for count in (1, 2, 4096)] == ["1 sample", "2 samples", "4,096 samples"]


def test_plain_characters_where_there_are_no_others(run: Any) -> None:
    """A terminal that knows ASCII alone gets the same table."""
    _, out, _ = run("sample", "diabetes", ROW, "--seed", "7")
    plain = show.plain(out)
    assert plain.isascii()
    assert "+- 60.04" in plain
    assert "?" not in plain


class Terminal(io.StringIO):
    """Where somebody looks."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_the_line_says_how_far_it_is() -> None:
    """Rows, speed, and the time that is left; rows that were done before are no speed; nothing in a pipe."""
    now = [100.0]
    screen = Terminal()
    bar = Bar(before=1000, stream=screen, clock=lambda: now[0])
    bar(1000, 5000)
    now[0] += 10
    bar(2000, 5000)
    now[0] += 0.05  # too soon to be drawn again
    bar(2001, 5000)
    now[0] += 30
    bar(5000, 5000)
    lines = screen.getvalue().split("\r")
    assert len(lines) == 4
    assert lines[2].split("░ ")[1].split() == ["40%", "2,000", "of", "5,000", "rows", "100", "rows/s", "0:30", "left"]
    assert lines[3].endswith("\n")
    assert lines[3].split("█ ")[1].split() == ["100%", "5,000", "of", "5,000", "rows", "100", "rows/s", "0:40"]
    Bar(stream=(pipe := io.StringIO()))(1, 2)
    assert pipe.getvalue() == ""
    assert [clock_time(seconds) for seconds in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
