"""Who is answered and who is not, over real connections."""

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from cryoformer.explore.view.server import PAGE
from cryoformer.files import read_mrc_volume
from cryoformer.run.run_folder import open_run
from explore.view.conftest import served


def ask(address: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body; header names with _ for -. ``token="..."`` sends the cookie."""
    where = urlsplit(address)
    token = headers.pop("token", parse_qs(where.query)["token"][0])
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Cookie"] = f"cryoformer-view-{where.port}={token}"
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    connection.request(method, path, body, sent)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


EVERYTHING = [*PAGE, "/api/run", "/api/maps/pc12", "/api/columns", "/api/selections", "/live", "/nothing"]


@pytest.mark.parametrize("path", EVERYTHING)
def test_without_the_token_nothing_is_answered(address: str, path: str) -> None:
    assert ask(address, path, token="")[0] == 403
    assert ask(address, path, token="x" * 32)[0] == 403
    assert ask(address, path + "?token=wrong", token="")[0] == 403


@pytest.mark.parametrize("path", EVERYTHING)
def test_other_hosts_and_origins_are_refused_with_the_token(address: str, path: str) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "0.0.0.0", "localhost.evil"):
        assert ask(address, path, Host=host)[0] == 403, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1", "http://localhost:1"):
        assert ask(address, path, Origin=origin)[0] == 403, origin


def test_the_token_in_the_address_opens_the_page_and_leaves_the_address(address: str) -> None:
    where = urlsplit(address)
    assert where.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    connection.request("GET", f"/?{where.query}")
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("Location")) == (303, "/")
    cookie = reply.getheader("Set-Cookie") or ""
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, page = ask(address, "/", Origin=f"http://127.0.0.1:{where.port}")
    assert status == 200
    assert b"<canvas" in page


@pytest.mark.parametrize(
    "path",
    [
        "/../config.yaml",
        "/config.yaml",
        "/static/viewer.js",
        "//etc/passwd",
        "/viewer.js/../../server.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/maps/..%2f..%2flatents",
    ],
)
def test_no_file_is_reached_by_its_path(address: str, path: str) -> None:
    status, body = ask(address, path)
    assert status in (400, 404)
    assert b"root:" not in body
    assert b"settings" not in body


def test_selections_stay_inside_the_run(address: str, viewed_run: Path) -> None:
    before = sorted(viewed_run.parent.rglob("*"))
    rows = np.array([1, 2], dtype="<i4").tobytes()
    for name in ("../outside", "../../outside", "/etc/outside", ".hidden", "a/../../b"):
        path = f"/api/selections/{quote(name, safe='')}"
        for method, ending in (("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "/export")):
            assert ask(address, path + ending, method, rows)[0] in (400, 404), (method, name)
    assert sorted(viewed_run.parent.rglob("*")) == before


def test_a_selection_is_kept_listed_and_deleted(address: str, viewed_run: Path) -> None:
    rows = np.array([5, 2, 9], dtype="<i4").tobytes()
    status, body = ask(address, "/api/selections/mine", "PUT", rows)
    assert (status, json.loads(body)) == (200, [{"name": "mine", "count": 3}])
    np.testing.assert_array_equal(np.load(viewed_run / "selections" / "mine.npy"), [2, 5, 9])
    assert ask(address, "/api/selections/mine", "PUT", b"abc")[0] == 400
    assert ask(address, "/api/selections/mine", "PUT", np.array([1000], dtype="<i4").tobytes())[0] == 400
    status, body = ask(address, "/api/selections/mine", "DELETE")
    assert (status, json.loads(body)) == (200, [])


def test_wrong_input_is_answered_with_one_sentence(address: str) -> None:
    for body in (b"{}", b'{"rows": [1], "state": {}}', b'{"rows": [100000], "state": {"particle": 1}}', b"no json"):
        status, answer = ask(address, "/api/particles", "POST", body)
        assert status == 400
        assert json.loads(answer)["error"]


def test_the_committed_page_fetches_nothing_from_elsewhere() -> None:
    folder = Path(sys.modules["cryoformer.explore.view.server"].__file__ or "").parent / "static"
    for name, _ in PAGE.values():
        text = (folder / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "import(" not in text
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000


def test_a_state_and_a_difference_are_saved_as_maps(address: str, viewed_run: Path, tmp_path: Path) -> None:
    run = open_run(viewed_run)
    first, second = run.particle_volumes([3, 90])
    for minus, expected in ((None, second), ({"particle": 3}, second - first)):
        body = json.dumps({"state": {"particle": 90}, "minus": minus}).encode()
        status, content = ask(address, "/api/volume", "POST", body)
        assert status == 200
        (tmp_path / "saved.mrc").write_bytes(content)
        volume, pixel_size = read_mrc_volume(tmp_path / "saved.mrc")
        assert pixel_size == pytest.approx(run.pixel_size_angstrom)
        np.testing.assert_allclose(volume, expected, atol=1e-5 * np.abs(second).max())
    assert ask(address, "/api/volume", "POST", b'{"state": {"particle": 100000}}')[0] == 400


def test_rows_that_are_not_there_have_no_directions(address: str) -> None:
    for body in (b"abc", np.array([100], dtype="<i4").tobytes(), np.array([-1], dtype="<i4").tobytes()):
        assert ask(address, "/api/directions", "POST", body)[0] == 400


def test_with_port_and_token_of_before_an_old_window_is_answered_again(own_run: Path) -> None:
    token = "a-token-that-nobody-guesses"
    with served(own_run, "--token", token) as first:
        port = str(urlsplit(first).port)
        assert ask(first, "/api/run", token=token)[0] == 200
    with served(own_run, "--token", token, "--port", port) as second:
        assert second == first
        assert ask(second, "/api/run", token=token)[0] == 200
    command = [sys.executable, "-m", "cryoformer", "view", str(own_run), "--token", "short"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--token: expected 16 or more" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends an interrupt")
def test_the_command_ends_quietly_on_an_interrupt(made_run: Path) -> None:
    command = [sys.executable, "-m", "cryoformer", "view", str(made_run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    assert process.returncode in (0, 130)


def test_a_folder_that_is_no_run_is_an_error_of_the_user(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cryoformer", "view", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "not the folder of a run" in done.stderr
