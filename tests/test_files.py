"""Text files: what is read, how it is written, and that nothing of it depends on the machine."""

import codecs
import os

import pytest

from allukan.errors import UserError
from allukan.files import read_json, read_table, read_text, whole, write_json, write_table, write_text

TEXT = "id,gruppe\nläsion 患者 1,🩻\n"
ENCODINGS = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16 of Excel": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16, big end first": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "lines of Windows": TEXT.replace("\n", "\r\n").encode(),
    "lines of the old Mac": TEXT.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_text_and_tables_of_every_program(tmp_path, name):
    path = tmp_path / "x.csv"
    path.write_bytes(ENCODINGS[name])
    assert read_text(path) == TEXT
    assert read_table(path) == [{"id": "läsion 患者 1", "gruppe": "🩻"}]


@pytest.mark.parametrize("content", ["läsion".encode("cp1252"), "läsion".encode("utf-16-le")])
def test_other_encodings_are_refused_by_name(tmp_path, content):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.txt .*: save it as UTF-8\."):
        read_text(tmp_path / "x.txt")


@pytest.mark.parametrize(
    "text",
    [
        "id,patient\na b,1\nc,2\n",
        "id;patient\na b;1\nc;2\n",
        "id\tpatient\na b\t1\nc\t2\n",
        'sep=;\r\n"id";"patient"\r\n"a b";"1"\r\nc;2\r\n',
        " id , patient \na b,1\n\nc, 2\n",
        "id;patient;;\na b;1;;\nc;2;;\n;;;\n",
    ],
    ids=["comma", "semicolon", "tab", "Excel's hint and quotes", "blanks", "empty columns and rows"],
)
def test_delimiters(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "x.csv") == [{"id": "a b", "patient": "1"}, {"id": "c", "patient": "2"}]


def test_a_delimiter_within_names_does_not_count(tmp_path):
    (tmp_path / "x.csv").write_text("id;who, where\na,1;b, c\nd;e\n", encoding="utf-8")
    assert read_table(tmp_path / "x.csv") == [{"id": "a,1", "who, where": "b, c"}, {"id": "d", "who, where": "e"}]


@pytest.mark.parametrize(("text", "words"), [("id,p\na,1,2\n", "3 fields in row 2 and 2"), ("id,id\na,1\n", "column twice")])
def test_tables_that_are_none(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_table(tmp_path / "x.csv")


NAMES = ["a,b", 'say "x"', "=1+2", "-c", "line\nbreak", "[red]", "é", "患者 1", "🩻", " space ", "a;b", "t\tt", "#", "'"]


def test_tables_come_back_as_they_were(tmp_path):
    rows = [{"id": name, "value": str(i)} for i, name in enumerate(NAMES)]
    write_table(tmp_path / "x.csv", rows)
    found = read_table(tmp_path / "x.csv")
    assert [row["value"] for row in found] == [row["value"] for row in rows]
    assert [row["id"].strip() for row in found] == [name.strip() for name in NAMES]
    assert b"\r" not in (tmp_path / "x.csv").read_bytes()


def test_json_with_a_mark_and_json_that_is_none(tmp_path):
    (tmp_path / "x.json").write_bytes(codecs.BOM_UTF8 + '{"läsion": 1}'.encode())
    assert read_json(tmp_path / "x.json") == {"läsion": 1}
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "x", "old")

    def fail():
        with whole(tmp_path / "x") as part:
            part.write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [("x", "old")]


def test_the_longest_names_can_be_written(tmp_path):
    name = "x" * 251 + ".csv"
    write_json(tmp_path / name, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
def test_what_is_no_file_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "läsion")
    assert os.read(reader, 99) == "läsion".encode()
    os.close(reader)


def test_what_cannot_be_text_is_spelled_out(tmp_path):
    write_text(tmp_path / "x", "l\udce4sion l\udcc3\udca4sion")
    assert read_text(tmp_path / "x") == "l\\udce4sion l\\udcc3\\udca4sion"


def test_a_folder_that_is_not_there_is_told_by_the_name_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "nowhere/x.json", "{}")
    assert caught.value.filename == str(tmp_path / "nowhere/x.json")
    assert list(tmp_path.iterdir()) == []


def test_a_space_at_the_start_of_a_value_stays(tmp_path):
    rows = [{"id": " a", "x": "1"}, {"id": "b", "x": " 2"}]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows
