import pytest

from allukan.errors import UserError
from allukan.options.amounts import memory_text, parse_memory, parse_time, time_text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("8GiB", 8 * 2**30),
        ("8gib", 8 * 2**30),
        ("8G", 8 * 2**30),
        ("8GB", 8 * 10**9),
        ("1.5 TiB", 3 * 2**39),
        (" 500MB ", 500 * 10**6),
        ("2048k", 2**21),
    ],
)
def test_memory(text, amount):
    assert parse_memory(text) == amount


NO_MEMORY = ["", "8", "GiB", "8 apples", "-8GiB", "8GiBB", "8i", "8iB", "1e3GiB", "0GiB", "99999TiB", "nan", 8, None]
TIMES = {
    "90s": 90,
    "30m": 1800,
    "30min": 1800,
    "2h": 7200,
    "1h30m": 5400,
    "1h 30m 5s": 5405,
    "0.5h": 1800,
    "1d": 86400,
    "2H": 7200,
}


@pytest.mark.parametrize("text", NO_MEMORY)
def test_memory_that_is_none(text):
    with pytest.raises(UserError, match="is not usable: give") as told:
        parse_memory(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("text", "seconds"), TIMES.items())
def test_time(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-30m", "30m2h", "0s", "0.1s", "99999d", "half an hour", 30, None])
def test_time_that_is_none(text):
    with pytest.raises(UserError, match="is not usable: give a number and its unit, as 30m"):
        parse_time(text)


def test_words_come_back():
    assert parse_memory(memory_text(3 * 2**30)) == 3 * 2**30
    assert (time_text(90), time_text(30), time_text(86_400)) == ("1.5 minutes", "30 seconds", "24 hours")
