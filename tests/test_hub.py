"""Models in folders with their cards, and through the client of the Hugging Face Hub."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import numpy as np
import pytest
import yaml
from bundles import make_bundle

import streamrde as sr
from streamrde.demo.watch_data import MODEL
from streamrde.errors import BundleError, ParameterError
from streamrde.hub import from_pretrained, save_pretrained

COMMIT = "0123456789" * 4


def answers(bundle):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, len(bundle.header.channels)))
    return sr.Fleet(bundle).push(["a"] * 200, np.arange(200) / 20, x)


def test_a_folder_gives_the_same_model_again(tmp_path):
    bundle = sr.load(MODEL)
    save_pretrained(bundle, tmp_path / "new" / "watch")
    for place in (tmp_path / "new" / "watch", str(tmp_path / "new" / "watch")):
        found = from_pretrained(place)
        assert found.header == bundle.header
        assert found.fingerprint == bundle.fingerprint
        assert answers(found).equals(answers(bundle))
    assert sorted(path.name for path in (tmp_path / "new" / "watch").iterdir()) == ["README.md", "model.safetensors"]


def test_the_card_has_the_facts_of_the_header(tmp_path):
    bundle = sr.load(MODEL)
    save_pretrained(bundle, tmp_path / "watch")
    text = (tmp_path / "watch" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    known = yaml.safe_load(front)
    assert known["library_name"] == "streamrde"
    assert "time-series-classification" in known["tags"]
    assert "# watch\n" in body
    header = bundle.header
    for fact in (*(own.name for own in header.channels), *header.labels, header.windows.describe(), bundle.fingerprint):
        assert str(fact).replace("_", "\\_") in body
    for section in ("Channels", "What it gives", "How it was trained", "Measured in training"):
        assert f"## {section}\n" in body
    name, value = next((name, value) for name, value in header.metrics.items() if name.startswith("test_"))
    measure = name.removeprefix("test_").replace("_", " ")
    row = next(line for line in body.splitlines() if line.startswith(f"| {measure} |"))
    assert f"{value:.5g}" in row or f"{value:,.0f}" in row


def test_hostile_names_stay_text_on_the_card(tmp_path):
    label = "<script>alert(1)</script> | [x](http://y) `z`\n---\n# w"
    bundle = make_bundle(labels=("x", "y", label))
    save_pretrained(bundle, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert r"\<script\>alert(1)\</script\> \| \[x\](http://y) \`z\` --- \# w" in text
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "streamrde"


def test_a_torch_model_has_the_three_as_methods(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    model = sr.NeuralRDE(3, depth=2, hidden=4, outputs=2, windows=sr.Every(0.5))
    model.save_pretrained(tmp_path / "own")
    assert "# own\n" in (tmp_path / "own" / "README.md").read_text()
    found = sr.NeuralRDE.from_pretrained(tmp_path / "own")
    assert isinstance(found, torch.nn.Module)
    assert (
        found.to_bundle().fingerprint == model.to_bundle().fingerprint == from_pretrained(tmp_path / "own").fingerprint
    )
    assert all(weight.requires_grad for weight in found.parameters())
    with pytest.raises(ParameterError, match="only repositories have revisions"):
        sr.NeuralRDE.from_pretrained(tmp_path / "own", revision="v1")


def test_an_edited_card_can_be_kept(tmp_path):
    save_pretrained(make_bundle(), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    save_pretrained(make_bundle(1), tmp_path, card=False)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert from_pretrained(tmp_path).fingerprint == make_bundle(1).fingerprint


def test_what_is_no_model_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(BundleError, match="no such folder, and not the name of a repository"):
        from_pretrained(tmp_path / "none")
    with pytest.raises(BundleError, match="no such folder"):
        from_pretrained("../a/b/c")
    with pytest.raises(BundleError, match=r"model\.safetensors: No such file"):
        from_pretrained(tmp_path)
    with pytest.raises(BundleError, match=r"a file; streamrde\.load reads"):
        from_pretrained(MODEL)
    with pytest.raises(ParameterError, match="only repositories have revisions"):
        from_pretrained(tmp_path, revision="v1")


def test_a_missing_extra_names_the_command(tmp_path):
    save_pretrained(make_bundle(), tmp_path)
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; from streamrde.hub import from_pretrained\n"
        f"print(from_pretrained({str(tmp_path)!r}).fingerprint); from_pretrained('owner/name')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == make_bundle().fingerprint  # a folder needs no extra
    assert "pip install 'streamrde[hub]'" in done.stderr


class _Hub(BaseHTTPRequestHandler):
    """What the client asks of the Hub to make a repository, to commit small files, and to read them."""

    files: dict[str, bytes]
    commits: list[dict]

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        base = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            made = json.loads(body)
            found = {"url": f"{base}/{made['organization']}/{made['name']}"}
        elif self.path == "/api/validate-yaml":
            found = {"errors": [], "warnings": []}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            found = {"files": [{"path": own["path"], "uploadMode": "regular", "shouldIgnore": False} for own in files]}
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                else:
                    self.commits.append({**line["value"], "by": self.headers["Authorization"]})
            found = {"commitUrl": f"{base}/me/pump/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def do_GET(self):
        data = self.files.get(self.path.removeprefix("/me/pump/resolve/main/"))
        if data is None:
            self.answer(404, b"", X_Error_Code="RepoNotFound")
        else:
            self.answer(200, data, ETag=f'"{len(data)}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path):
    pytest.importorskip("huggingface_hub")
    handler = type("Own", (_Hub,), {"files": {}, "commits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def on_hub(address, home, code, **more):
    """Run code in a process of its own: the client reads its settings when it is imported."""
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    code = f"from streamrde.hub import *\nimport streamrde as sr\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | own | more, capture_output=True, text=True, check=False, cwd=home
    )


def test_a_model_goes_to_a_hub_and_comes_back(tmp_path, hub):
    handler, address = hub
    bundle = make_bundle()
    bundle = sr.Bundle(msgspec.structs.replace(bundle.header, description="of a pump"), bundle.tensors)
    bundle.save(tmp_path / "own.safetensors")
    done = on_hub(
        address,
        tmp_path,
        "print(push_to_hub(sr.load('own.safetensors'), 'me/pump', token='hf_own', message='First'))\n"
        "print(from_pretrained('me/pump', token='hf_own').fingerprint)\n"
        "model = sr.NeuralRDE.from_pretrained('me/pump', token='hf_own')\n"
        "print(model.push_to_hub('me/pump', token='hf_own', card=False))",
    )
    commit = f"{address}/me/pump/commit/{COMMIT}"
    assert done.stdout.split() == [commit, bundle.fingerprint, commit], done.stderr
    assert [(own["summary"], own["by"]) for own in handler.commits] == [
        ("First", "Bearer hf_own"),
        ("Upload a streamrde model", "Bearer hf_own"),
    ]
    assert sorted(handler.files) == ["README.md", "model.safetensors"]
    card = handler.files["README.md"].decode()
    assert "from_pretrained('me/pump')" in card
    assert "of a pump" in card


def test_a_repository_that_is_not_there_is_an_error_of_a_model(tmp_path, hub):
    done = on_hub(hub[1], tmp_path, "from_pretrained('me/none')")
    assert "BundleError: me/none: no folder here, and not read from the Hub; check the name" in done.stderr
    done = on_hub(hub[1], tmp_path, "from_pretrained('me/pump')", HF_HUB_OFFLINE="1")
    assert "BundleError: me/pump: no folder here, and not read from the Hub" in done.stderr
