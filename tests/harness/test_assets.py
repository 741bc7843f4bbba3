"""Assets: found in order, checked by content, pulled whole or not at all, and every failure says what to do."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import assets
from harness.assets import Asset
from harness.errors import UserError

CONTENT = b"forty-two\n" * 1000
GOOD = hashlib.sha256(CONTENT).hexdigest()
Pin = Callable[[str | None], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path / "mirror"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/nonsense":
                self.wfile.write(b"what is this\r\n\r\n")
                return
            good = self.path == "/good"
            self.send_response(200 if good or self.path == "/wrong" else 404)
            self.end_headers()
            self.wfile.write(CONTENT if good else b"other")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Sets the address of the one file ``a/b.txt``."""
    entry = Asset("a/b.txt", "verbatim", None, GOOD, len(CONTENT), "MIT")
    return lambda url: monkeypatch.setattr(assets, "manifest", lambda: {"a/b.txt": replace(entry, url=url)})


def test_the_manifest_is_sound() -> None:
    for name, pin in assets.manifest().items():
        assert pin.file == name and ".." not in name and pin.licence
        assert len(pin.sha256) == 64 or (not pin.sha256 and pin.kind == "hub" and len(pin.commit or "") == 40)
        assert (pin.url is None) == (pin.kind in ("recovered", "check"))
        assert pin.url is None or (pin.url.startswith("https://") and (pin.commit or "?") in pin.url)
        assert all(source in assets.manifest() for source in pin.made_from)
        assert bool(pin.made_from) == (pin.kind == "recovered")


def test_pull_checks_and_moves_in_whole(folder: Path, server: str, pin: Pin) -> None:
    seen: list[tuple[str, int, int | None]] = []
    pin(f"{server}/good")
    (done,) = assets.pull(["a/b.txt"], lambda *facts: seen.append(facts))
    assert done.state == "ok" and (folder / "a/b.txt").read_bytes() == CONTENT
    assert seen[-1] == ("a/b.txt", len(CONTENT), len(CONTENT))
    assert [path.name for path in (folder / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("{server}/wrong", "nothing was stored"),
        ("{server}/absent", "404"),
        ("{server}/nonsense", "what is this"),  # no HTTP
        ("http://127.0.0.1:1/x", "cannot pull"),
        ("ftp://example.org/x", "not an HTTPS address"),
        (None, "cannot be pulled"),
    ],
)
def test_a_failed_pull_says_why_and_leaves_nothing(
    folder: Path, server: str, pin: Pin, url: str | None, says: str
) -> None:
    pin(url and url.format(server=server))
    (failed,) = assets.pull()
    assert failed.state == "missing" and says in failed.message
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_missing_wrong_and_mended(folder: Path, server: str, pin: Pin) -> None:
    pin(f"{server}/good")
    missing = assets.check_asset("a/b.txt")
    assert missing.state == "missing" and "assets pull" in missing.message and str(folder) in missing.message
    (folder / "a").mkdir()
    (folder / "a/b.txt").write_bytes(b"edited")
    wrong = assets.check_asset("a/b.txt")
    assert wrong.state == "wrong" and GOOD in wrong.message and "Remove it" in wrong.message
    (mended,) = assets.pull(["a/b.txt"])
    assert mended.state == "ok"


def test_the_cache_is_looked_in_after_the_named_folder(folder: Path) -> None:
    place = assets.cache_folder() / "gsm8k"
    place.mkdir(parents=True)
    (place / "test.jsonl").write_text("not the pinned file")
    with pytest.raises(UserError, match="is not the pinned file"):
        assets.locate("gsm8k/test.jsonl")
    with pytest.raises(UserError, match="is not the pinned file"):
        assets.is_present("gsm8k/test.jsonl")
    assert assets.is_present("gsm8k/train.jsonl") is False
    assert {file.state for file in assets.status()} == {"missing", "wrong"}


def test_unknown_names_are_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'gsm8k/test.jsonl'"):
        assets.locate("gsm8k/tests.jsonl")


def test_recovered_files_name_their_sources(folder: Path) -> None:
    with pytest.raises(UserError, match="recover_length_difficulties") as caught:
        assets.locate("alpaca_eval/df_gamed_recovered.csv")
    assert "sources/alpaca_eval/gpt4_1106_preview_verbose/model_outputs.json" in str(caught.value)
    assert "29 more pinned sources" in str(caught.value)
