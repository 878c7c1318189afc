"""Against a server in this process: whole downloads, broken ones, resumed ones, wrong ones."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from restore import fetching
from restore.errors import OutputError, UsageError, WeightsError
from restore.fetching import CATALOGUE, MetricWeights, fetch, find_weights, read_verified, weights_folder

CONTENT = bytes(range(256)) * 4000  # four chunks


@dataclass
class Server:
    """What it sends, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    knows_ranges: bool = True
    states_length: bool = True
    breaks_after: list[int] = field(default_factory=list)  # bytes sent in each answer before the connection breaks
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            match = re.fullmatch(r"bytes=(\d+)-", wanted or "") if state.knows_ranges else None
            start = int(match.group(1)) if match else 0
            if match and start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.end_headers()
                return
            body = state.content[start:]
            self.send_response(206 if match else 200)
            if state.states_length:
                self.send_header("Content-Length", str(len(body)))
            if match:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            self.wfile.write(body[: state.breaks_after.pop(0)] if state.breaks_after else body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_port}/toy-weights.pth"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        know(monkeypatch, state.url)
        yield state
        http_server.shutdown()
        thread.join()


def know(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = CONTENT) -> None:
    weights = MetricWeights("toy", url, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(CATALOGUE, "toy", weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "weights"


def test_a_whole_file_arrives_with_progress(server: Server, folder: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch("toy", folder, lambda done, total: seen.append((done, total)))
    assert path == folder / "toy-weights.pth"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.ranges == [None]


def test_a_server_that_states_no_length(server: Server, folder: Path) -> None:
    server.states_length = False
    seen: list[int | None] = []
    assert fetch("toy", folder, lambda _, total: seen.append(total)).read_bytes() == CONTENT
    assert set(seen) == {None}


def test_a_file_that_is_there_is_not_fetched_again(server: Server, folder: Path) -> None:
    fetch("toy", folder)
    fetch("toy", folder)
    assert len(server.ranges) == 1


def test_a_wrong_file_that_is_there_is_replaced(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "toy-weights.pth").write_bytes(b"an old version")
    assert fetch("toy", folder).read_bytes() == CONTENT
    assert len(server.ranges) == 1


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_what_broke_off_goes_on(server: Server, folder: Path, *, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges
    server.breaks_after = [300_000, 300_000]
    assert fetch("toy", folder).read_bytes() == CONTENT
    offsets = [300_000, 600_000] if knows_ranges else [300_000, 300_000]
    assert server.ranges == [None, *(f"bytes={offset}-" for offset in offsets)]


def test_what_breaks_off_again_and_again_is_kept_for_the_next_run(server: Server, folder: Path) -> None:
    server.breaks_after = [100_000] * fetching.ATTEMPTS
    with pytest.raises(WeightsError, match=r"broke off after 300000 of 1024000 bytes; run the same command again"):
        fetch("toy", folder)
    assert [path.name for path in folder.iterdir()] == ["toy-weights.pth.part"]
    assert fetch("toy", folder).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


def test_a_part_that_is_already_whole(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "toy-weights.pth.part").write_bytes(CONTENT)
    assert fetch("toy", folder).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "toy-weights.pth.part").write_bytes(CONTENT + b"more")
    assert fetch("toy", folder).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_part_of_another_file_is_found_out(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "toy-weights.pth.part").write_bytes(b"x" * 1000)
    with pytest.raises(WeightsError, match="thrown away"):
        fetch("toy", folder)
    assert list(folder.iterdir()) == []
    assert fetch("toy", folder).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_wrong_content_is_refused(server: Server, folder: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    with pytest.raises(WeightsError, match=f"is not toy-weights.pth .sha256 {digest}"):
        fetch("toy", folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("answer", ["404 Not Found", "416 Requested Range Not Satisfiable"])
def test_a_refusal_is_said_at_once(server: Server, folder: Path, answer: str) -> None:
    server.status = int(answer[:3])
    with pytest.raises(WeightsError, match=rf"toy-weights\.pth: answers {answer}; .* by hand"):
        fetch("toy", folder)
    assert len(server.ranges) == 1


def test_offline(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        know(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}/toy-weights.pth")
        with pytest.raises(WeightsError, match=r"does not answer .*refused") as caught:
            fetch("toy", folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.05)
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        know(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/toy-weights.pth")
        with pytest.raises(WeightsError, match=r"does not answer .*timed out"):
            fetch("toy", folder)


def test_a_server_that_speaks_something_else_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    class Greeter(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"SSH-2.0-OpenSSH\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Greeter) as greeter:
        thread = threading.Thread(target=greeter.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        know(monkeypatch, f"http://127.0.0.1:{greeter.server_address[1]}/toy-weights.pth")
        with pytest.raises(WeightsError, match=r"toy-weights\.pth: SSH-2\.0-OpenSSH; run the same command") as caught:
            fetch("toy", folder)
        greeter.shutdown()
        thread.join()
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch("toy", tmp_path / "file" / "weights")
    assert server.ranges == []


def test_the_digests_begin_as_the_authors_publish_them() -> None:
    for name, weights in CATALOGUE.items():
        assert weights.url.startswith("https://"), name
        assert re.fullmatch(r"[0-9a-f]{64}", weights.sha256), name
        assert weights.file_name.endswith(f"-{weights.sha256[:8]}.pth"), name


def test_the_folder_is_stated_or_from_the_environment_or_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RESTORE_WEIGHTS", raising=False)
    assert weights_folder() == tmp_path / "home/.cache/restore/weights"
    monkeypatch.setenv("RESTORE_WEIGHTS", "")
    assert weights_folder() == tmp_path / "home/.cache/restore/weights"
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path / "environment"))
    assert weights_folder() == tmp_path / "environment"
    assert weights_folder(tmp_path / "stated") == tmp_path / "stated"
    assert weights_folder(Path("~/stated")) == tmp_path / "home/stated"
    monkeypatch.setenv("RESTORE_WEIGHTS", "~/environment")
    assert weights_folder() == tmp_path / "home/environment"
    assert weights_folder(Path("~nobody-of-that-name/w")) == Path("~nobody-of-that-name/w")


def test_the_remedy_leads_where_the_weights_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path / "environment"))
    with pytest.raises(WeightsError, match="`restore models fetch lpips-vgg`"):
        find_weights("lpips-vgg")
    with pytest.raises(WeightsError, match=r"`restore models fetch lpips-vgg --weights-dir '.*/two words'`"):
        find_weights("lpips-vgg", tmp_path / "two words")


def test_a_missing_file_is_named_with_the_remedies(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights("lpips-alex", tmp_path)
    message = str(caught.value)
    for words in (
        "alexnet-owt-7be5be79.pth",
        str(tmp_path),
        f"`restore models fetch lpips-alex --weights-dir {tmp_path}`",
        "https://download.pytorch.org/",
        "leave lpips out",
    ):
        assert words in message
    assert "\n" not in message


def test_the_official_file_goes_before_its_equivalents(tmp_path: Path) -> None:
    (tmp_path / "squeezenet1_1-features.pth").write_bytes(b"")
    assert find_weights("lpips-squeeze", tmp_path).name == "squeezenet1_1-features.pth"
    (tmp_path / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"")
    assert find_weights("lpips-squeeze", tmp_path).name == "squeezenet1_1-b8a52dc0.pth"


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean lpips-vgg\?"):
        find_weights("lpips-vgg16", tmp_path)
    with pytest.raises(UsageError, match="there are lpips-alex, lpips-squeeze, lpips-vgg, inception-fid"):
        fetch("zzz", tmp_path)


def test_content_counts_and_not_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    know(monkeypatch, "http://127.0.0.1/toy-weights.pth")
    path = tmp_path / "renamed.pth"
    path.write_bytes(CONTENT)
    assert read_verified(path, "toy") == CONTENT
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(
        WeightsError, match=r"renamed\.pth: is not toy-weights\.pth .* `restore models fetch toy --weights-dir /.*`"
    ):
        read_verified(path, "toy")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_verified(tmp_path / "absent.pth", "toy")


def test_an_equivalent_file_is_accepted(shared: Path) -> None:
    path = find_weights("lpips-squeeze", shared / "weights")
    assert len(read_verified(path, "lpips-squeeze")) == path.stat().st_size
