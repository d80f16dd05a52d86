"""Whether the store is to have huge pages."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from plasmid.runtime.huge_pages import SETTING, huge_pages


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "shmem_enabled"


def test_not_unless_asked(monkeypatch: pytest.MonkeyPatch, policy: Path) -> None:
    policy.write_text("[always] within_size advise never deny force\n")
    for value in (None, "", "0"):
        monkeypatch.delenv(SETTING, raising=False)
        if value is not None:
            monkeypatch.setenv(SETTING, value)
        assert not huge_pages(str(policy))


@pytest.mark.parametrize("word", ["always", "within_size", "advise", "force"])
def test_where_the_machine_gives_them(
    monkeypatch: pytest.MonkeyPatch, policy: Path, word: str
) -> None:
    words = "always within_size advise never deny force".replace(word, f"[{word}]")
    policy.write_text(words + "\n")
    monkeypatch.setenv(SETTING, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert huge_pages(str(policy))


@pytest.mark.parametrize("word", ["never", "deny"])
def test_it_is_told_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch, policy: Path, word: str
) -> None:
    policy.write_text(f"always within_size advise {word}".replace(word, f"[{word}]"))
    monkeypatch.setenv(SETTING, "1")
    with pytest.warns(RuntimeWarning, match=f"changes nothing here.*{word}.*echo advise"):
        assert not huge_pages(str(policy))


def test_a_kernel_without_them(monkeypatch: pytest.MonkeyPatch, policy: Path) -> None:
    monkeypatch.setenv(SETTING, "1")
    with pytest.warns(RuntimeWarning, match="not there"):
        assert not huge_pages(str(policy))


def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "yes")
    with pytest.raises(ValueError, match="PLASMID_HUGE_PAGES is 'yes', but must be 1 or 0"):
        huge_pages()
