"""``allukan app``, without a browser: what is refused before the page opens."""

import importlib

import pytest


@pytest.fixture
def without_gradio(monkeypatch):
    monkeypatch.setattr(importlib.import_module("allukan.cli.app"), "find_spec", lambda name: None)


def test_without_gradio_the_command_says_what_to_install(shell, without_gradio, tmp_path):
    assert shell("app", tmp_path).sentence == "allukan: the app needs the package gradio: pip install 'allukan[app]'."


def test_no_model_is_told_before_anything_is_opened(shell, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("allukan.cli.app"), "find_spec", lambda name: "there")
    assert "config.json" in shell("app", tmp_path).sentence
