"""compose.yaml: valid by the Compose specification, and true to the files beside it."""

import json
from urllib.parse import urlsplit

import pytest
import yaml
from deployment.image import DEPLOYMENT, ROOT, instruction

from streamrde.config import RunConfig
from streamrde.disk import read_toml

COMPOSE = yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("streamrde:")]
compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec")


def test_it_is_valid_by_the_specification():
    parsed = compose_spec.PyCompose.from_json(json.dumps(COMPOSE))
    parsed.validate()
    assert len(parsed) == len(SERVICES)
    with pytest.raises(ValueError, match="stop_grace_perod"):
        compose_spec.PyCompose.from_json(json.dumps(COMPOSE).replace("stop_grace_period", "stop_grace_perod"))


def test_what_is_mounted_and_depended_on_exists():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert (DEPLOYMENT / source).exists(), volume
            else:
                assert source in COMPOSE["volumes"], volume
            assert target.startswith("/")
        for other in service.get("depends_on", ()):
            assert set(service["profiles"]) <= set(SERVICES[other]["profiles"]), name


def test_nothing_is_open_to_other_machines_and_every_image_has_a_tag():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["image"].partition(":")[2] not in ("", "latest"), name


def test_the_services_of_streamrde_are_the_image_and_may_end_in_order():
    import streamrde

    for name in OURS:
        service = SERVICES[name]
        assert service["image"] == f"streamrde:{streamrde.__version__}"
        assert (DEPLOYMENT / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]) == DEPLOYMENT / "Dockerfile"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        if "/etc/streamrde/run.toml" not in mounted:
            assert service["command"][0] == "replay"
            continue
        settings = read_toml(DEPLOYMENT / mounted["/etc/streamrde/run.toml"], RunConfig)
        assert int(service["stop_grace_period"].removesuffix("s")) >= settings.service.drain_seconds + 10
        assert str(settings.model) in mounted
        assert urlsplit(settings.source.url).hostname in SERVICES
        assert [str(settings.service.port)] == instruction("EXPOSE")
        writable = {*mounted, *(entry.partition(":")[0] for entry in service.get("tmpfs", ()))}
        assert "/var/lib/streamrde" in writable


def test_prometheus_finds_the_services_by_their_names():
    (job,) = yaml.safe_load((DEPLOYMENT / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) == {name for name in OURS if "command" not in SERVICES[name]}
    assert [str(found["port"])] == instruction("EXPOSE")
